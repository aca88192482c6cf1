"""QECCOPS circuits: load and check them, run them over many shots, judge what they compute.

`load_circuit` and `simulate` are the way in; `simulate_axis` runs many variants over few shots each.
"""
