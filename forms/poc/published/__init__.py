"""The published recipe of proof of compute, rebuilt from a description: an audit's subject, trusted by nobody.

`meshd poc audit` runs the same cheats against it and against `m1`, so that the differences are seen and not told.
"""
