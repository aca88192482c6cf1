"""The documents name what exists."""
