"""How far a node's claims about its own speed go, for whoever places work. Pure; the agent knows the answer.

A part of 1 is taken at its word; one of a half is expected to take twice as long as it says; 0 gets no work.
"""

from __future__ import annotations

from collections.abc import Callable

from transport.interface import NodeId

Believe = Callable[[NodeId], float]


def believe_everybody(node: NodeId) -> float:
    """For a mesh without proofs of compute."""
    return 1.0
