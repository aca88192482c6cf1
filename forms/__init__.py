"""Runs named GPU computations, here or on the node that finishes first.

Text is `reader` and `writer`, frames are `frame`; a form is what `form` says, and `live` holds the ones that ship.
"""
