"""Proof of compute between nodes: who proves to whom, in which order, and what a proof is worth."""
