"""Proof of compute, the computation: what a prover works out and a verifier works out again.

What is said over the mesh about it, by whom and when, is `meshd.attest`'s.
"""
