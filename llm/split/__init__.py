"""One model on several hosts: who holds which layers, the worker's end, the leader's, and weights that stay home."""
