"""Runs the real deciders of a whole mesh under one virtual clock: a heap of events, dice from one seed, no tasks.

What is simulated is only what lies between the deciders: the network with its faults, disks, processes that
stop and start. `schedules` checks every invariant under random faults, `measure` makes the figures that
`meshd sim` prints.
"""
