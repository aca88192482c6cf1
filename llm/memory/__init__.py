"""How much memory a model needs, worked out before it is loaded, and how that compares with what its engine took."""
