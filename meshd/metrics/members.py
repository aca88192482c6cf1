"""What happened to members and to hosts, counted from one view to the next. Pure.

A suspicion is false when the same incarnation of a process turns out to live: alive again at the same boot. So is a
death that is taken back at the same boot.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gossip.lease import claims
from gossip.view import Status, View
from transport.interface import NodeId

SUSPECTED, FALSELY_SUSPECTED = "suspected", "falsely_suspected"
DIED, FALSELY_DEAD = "died", "falsely_dead"
JOINED, LEFT = "joined", "left"
EVENTS = (SUSPECTED, FALSELY_SUSPECTED, DIED, FALSELY_DEAD, JOINED, LEFT)


@dataclass(slots=True)
class MemberEvents:
    """events: of members, by kind.  elections: hosts that were elected, the first of a resource included."""

    events: Counter[str] = field(default_factory=Counter)
    elections: int = 0
    _seen: dict[NodeId, tuple[Status, int]] = field(default_factory=dict)
    _terms: dict[str, int] = field(default_factory=dict)

    def follow(self, view: View) -> None:
        """Count what is new in `view`."""
        for node in view.nodes[1:]:
            before = self._seen.get(node.node)
            if (event := _event(before, (node.status, node.boot))) is not None:
                self.events[event] += 1
            self._seen[node.node] = (node.status, node.boot)
        here = {node.node for node in view.nodes}
        self._seen = {node: seen for node, seen in self._seen.items() if node in here}
        for resource, claim in claims(view).items():
            if claim.term > self._terms.get(resource, 0):
                self.elections += 1
                self._terms[resource] = claim.term


def _event(before: tuple[Status, int] | None, now: tuple[Status, int]) -> str | None:
    if before is None or before[1] != now[1]:
        return JOINED if now[0] is Status.ALIVE else None
    match before[0], now[0]:
        case old, new if old is new:
            return None
        case _, Status.SUSPECT:
            return SUSPECTED
        case _, Status.DEAD:
            return DIED
        case _, Status.LEFT:
            return LEFT
        case Status.SUSPECT, Status.ALIVE:
            return FALSELY_SUSPECTED
        case Status.DEAD, Status.ALIVE:
            return FALSELY_DEAD
        case _:
            return None
