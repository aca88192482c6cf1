"""What lies between nodes: who can reach whom, what gets lost on the way, and how long the rest takes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from transport.interface import NodeId

FIRST_RETRY_S = 0.05
MAX_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Bursts:
    """Gilbert–Elliott loss, for each direction by itself: shares of packets.

    begin, end: chance for each packet that a burst begins or ends.  loss: of packets in a burst.
    """

    begin: float = 0.02
    end: float = 0.25
    loss: float = 0.7


@dataclass(frozen=True, slots=True)
class Conditions:
    """How good the ways are. jitter: of the one-way delay, added at random; from 0.5 on packets overtake each other."""

    rtt_s: float = 0.02
    jitter: float = 0.5
    loss: float = 0.0
    duplication: float = 0.0
    bursts: Bursts | None = None


class Network:
    """Every way between two nodes, each direction by itself."""

    def __init__(self, conditions: Conditions, dice: random.Random) -> None:
        self.conditions = conditions
        self._dice = dice
        self._blocked: dict[tuple[NodeId, NodeId], int] = {}
        self._in_burst: dict[tuple[NodeId, NodeId], bool] = {}

    def worsen(self, loss: float) -> None:
        """Change the share of packets that is lost everywhere."""
        self.conditions = replace(self.conditions, loss=loss)

    def block(self, ways: Iterable[tuple[NodeId, NodeId]]) -> None:
        """Let nothing through from the first to the second of each pair. Blocks add up."""
        for way in ways:
            self._blocked[way] = self._blocked.get(way, 0) + 1

    def unblock(self, ways: Iterable[tuple[NodeId, NodeId]]) -> None:
        """Undo one `block` of each pair."""
        for way in ways:
            self._blocked[way] -= 1
            if not self._blocked[way]:
                del self._blocked[way]

    @property
    def is_whole(self) -> bool:
        """Whether everyone can reach everyone."""
        return not self._blocked

    def is_open(self, source: NodeId, target: NodeId) -> bool:
        """Whether packets pass from one to the other."""
        return (source, target) not in self._blocked

    def are_connected(self, one: NodeId, other: NodeId) -> bool:
        """Whether packets pass both ways."""
        return not self._blocked or (self.is_open(one, other) and self.is_open(other, one))

    def delay_s(self) -> float:
        """How long one packet takes, one way."""
        conditions = self.conditions
        return conditions.rtt_s / 2 * (1 + conditions.jitter * self._dice.random())

    def loses(self, source: NodeId, target: NodeId) -> bool:
        """Throw the dice over one packet."""
        conditions = self.conditions
        if self._blocked and (source, target) in self._blocked:
            return True
        if conditions.bursts is not None and self._is_burst_loss(source, target, conditions.bursts):
            return True
        return conditions.loss > 0 and self._dice.random() < conditions.loss

    def arrivals(self, source: NodeId, target: NodeId) -> list[float]:
        """After how long the copies of one datagram arrive; empty when it is lost."""
        if self.loses(source, target):
            return []
        delay_s, duplication = self.delay_s(), self.conditions.duplication
        if duplication and self._dice.random() < duplication:
            return [delay_s, self.delay_s() + self.delay_s()]
        return [delay_s]

    def retry_s(self, attempt: int) -> float:
        """How long the sender waits before it sends once more what must arrive (RFC 9002 §6.2, roughly)."""
        wait_s = max(FIRST_RETRY_S, 1.5 * self.conditions.rtt_s)
        return min(MAX_RETRY_S, wait_s * 2.0 ** min(attempt, 8))

    def _is_burst_loss(self, source: NodeId, target: NodeId, bursts: Bursts) -> bool:
        way = (source, target)
        was_in_burst = self._in_burst.get(way, False)
        turn = self._dice.random()
        in_burst = turn >= bursts.end if was_in_burst else turn < bursts.begin
        self._in_burst[way] = in_burst
        return in_burst and self._dice.random() < bursts.loss
