"""The catalogue as data: what runs here, what others published of the same, and what might come next."""
