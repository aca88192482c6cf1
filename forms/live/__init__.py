"""The forms that ship, one module each."""
