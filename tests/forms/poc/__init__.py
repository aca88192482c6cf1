"""Acceptance of proof of compute on a processor; the numbers are those of the design."""
