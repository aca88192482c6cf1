"""Carries bytes between nodes that have proved who they are."""
