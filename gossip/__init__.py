"""Knows who is in the mesh, whether they live, what they say of themselves, and who hosts what."""
