"""Which nonces are whose: no two nodes, and no two groups of a node, ever try the same one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from forms.poc.philox import Array


@dataclass(frozen=True, slots=True)
class Residue:
    """A prover's share of all nonces. node: its place among `nodes` provers.  groups: it works with."""

    node: int
    nodes: int
    groups: int

    def __post_init__(self) -> None:
        if not (0 <= self.node < self.nodes and self.groups > 0):
            raise ValueError(f"no share of the nonces: node {self.node} of {self.nodes}, {self.groups} groups")

    def nonces(self, group: int, start: int, count: int) -> Array:
        """The nonces number `start` to `start + count` of one group."""
        turns = numpy.arange(start, start + count, dtype=numpy.uint64)
        return turns * numpy.uint64(self.groups * self.nodes) + numpy.uint64(self.node + group * self.nodes)

    def owns(self, nonces: Array) -> bool:
        """Whether all of them are this prover's."""
        return bool(numpy.all(nonces % numpy.uint64(self.nodes) == numpy.uint64(self.node)))

    def tested(self, nonces: Array) -> int:
        """How many were tried at least, by groups that try theirs in order, to find these."""
        turns = nonces // numpy.uint64(self.nodes)
        group, turn = turns % numpy.uint64(self.groups), turns // numpy.uint64(self.groups)
        highest = [turn[group == one] for one in range(self.groups)]
        return sum(int(found.max()) + 1 for found in highest if found.size)
