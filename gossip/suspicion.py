"""How long a suspected member has to answer before it counts as dead (Lifeguard, "LHA-Suspicion").

One accuser may itself be the slow one, so it waits long; each further accuser shortens the wait.
"""

from __future__ import annotations

import math

from transport.interface import NodeId

MAX_ACCUSERS = 3
MINIMUM_PROBES = 3
MAXIMUM_FACTOR = 6

RIPE_SHARE = 0.5
"""Of the shortest wait. Whoever hears of a death heard of the suspicion before, but for the time that gossip takes:
0.4 of this at 200 nodes and 30 % loss. Taken at once, one liar could have anybody buried for a moment."""


def accusers_needed(nodes: int) -> int:
    """How many further accusers bring the wait to its minimum, in a mesh of `nodes` with the observer.

    Clamped to whom there is left to ask: unclamped, a crash took two nodes 19.5 s to know, not 4.5 s.
    """
    return max(0, min(MAX_ACCUSERS, (nodes - 2) // 2))


def minimum_s(nodes: int, probe_s: float) -> float:
    """The shortest wait in a mesh of `nodes`."""
    return MINIMUM_PROBES * max(1.0, math.log10(max(1, nodes))) * probe_s


class Suspicion:
    """One suspicion and the clock that runs on it. Who accused is kept in order of hearing."""

    __slots__ = ("_accusers", "_is_hastened", "_maximum_s", "_minimum_s", "_needed", "start")

    def __init__(self, start: float, nodes: int, probe_s: float) -> None:
        self.start = start
        self._is_hastened = False
        self._needed = accusers_needed(nodes)
        self._minimum_s = minimum_s(nodes, probe_s)
        self._maximum_s = self._minimum_s * MAXIMUM_FACTOR
        self._accusers: dict[NodeId | str, None] = {}

    @property
    def accusers(self) -> int:
        """How many independent voices there are."""
        return len(self._accusers)

    @property
    def deadline(self) -> float:
        """When the member counts as dead unless it refutes."""
        return self.start + self.timeout_s

    @property
    def timeout_s(self) -> float:
        """max − (max − min)·log(c+1)/log(K+1), c the accusers after the first."""
        further = min(max(0, len(self._accusers) - 1), self._needed)
        if self._needed == 0 or self._is_hastened:
            return self._minimum_s
        share = math.log(further + 1) / math.log(self._needed + 1)
        return self._maximum_s - (self._maximum_s - self._minimum_s) * share

    def wants(self, accuser: NodeId) -> bool:
        """Whether a voice of `accuser` would be new and shorten the wait."""
        return not self._is_hastened and accuser not in self._accusers and len(self._accusers) <= self._needed

    def accuse(self, accuser: NodeId | str) -> bool:
        """Add a voice; True when it is new and still shortens the wait, so that it is worth passing on."""
        if accuser in self._accusers or len(self._accusers) > self._needed:
            return False
        self._accusers[accuser] = None
        return True

    def hasten(self) -> bool:
        """Somebody's clock has run out already, so no further voice is needed; whether that is news."""
        is_news = not self._is_hastened and len(self._accusers) <= self._needed
        self._is_hastened = True
        return is_news

    def is_ripe(self, now: float) -> bool:
        """Whether the member has had time enough to answer for another's word of its death to be taken."""
        return now - self.start >= RIPE_SHARE * self._minimum_s

    def extend(self, gap_s: float) -> None:
        """Put the clock back by a time in which this node itself stood still."""
        self.start += gap_s
