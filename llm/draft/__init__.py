"""Drafting for models of other nodes: a small model here proposes what a large one there verifies (`draft/1`)."""
