"""Runs named GPU computations, here or on the node that finishes first.

Empty until the forms are built; the package exists so that its place in the layers is held.
"""
