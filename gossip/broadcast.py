"""Rumours on their way out: which to put into the next packet, and when one has been told often enough.

Membership goes before facts, the least told first (SWIM §4.1). One rumour a topic: news replaces what it
supersedes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from gossip.message import RUMOUR_BUDGET_BYTES, fits_datagram, rumour_cost
from transport.interface import NodeId

RETRANSMIT_FACTOR = 6
"""memberlist's 4 leaves 17 % of rumours incomplete at 30 % loss."""

MAX_RUMOURS = 4096


class Topic(NamedTuple):
    """What a rumour is about. detail: a fact's key, an accuser, or nothing."""

    is_fact: bool
    subject: NodeId
    detail: str | bytes = b""


@dataclass(slots=True)
class _Queued:
    payload: bytes
    cost: int
    sent: int = 0


def transmissions(nodes: int) -> int:
    """How often a rumour is sent in a mesh of `nodes`: 6·⌈log10(nodes + 1)⌉."""
    return RETRANSMIT_FACTOR * math.ceil(math.log10(nodes + 1))


class Broadcast:
    """A bounded queue of rumours. When it is full, the one told most often goes."""

    def __init__(self) -> None:
        self._membership: dict[Topic, _Queued] = {}
        self._facts: dict[Topic, _Queued] = {}

    def __len__(self) -> int:
        return len(self._membership) + len(self._facts)

    def put(self, topic: Topic, payload: bytes) -> None:
        """Start telling `payload`, instead of what was told on `topic`. Too large for a packet: left out."""
        queue = self._facts if topic.is_fact else self._membership
        queue.pop(topic, None)
        if not fits_datagram(payload):
            return
        if len(queue) >= MAX_RUMOURS:
            del queue[max(queue, key=lambda one: queue[one].sent)]
        queue[topic] = _Queued(payload, rumour_cost(payload))

    def retract(self, subject: NodeId) -> None:
        """Stop telling anything about the standing of `subject`: there is later news."""
        for topic in [topic for topic in self._membership if topic.subject == subject]:
            del self._membership[topic]

    def retract_facts(self, subject: NodeId) -> None:
        """Stop telling facts of `subject`: it has started anew."""
        for topic in [topic for topic in self._facts if topic.subject == subject]:
            del self._facts[topic]

    def fill(self, limit: int, budget: int = RUMOUR_BUDGET_BYTES, max_rumours: int = 32) -> list[bytes]:
        """Take rumours for one packet, at most `budget` bytes, forgetting those now told `limit` times."""
        chosen: list[bytes] = []
        for queue in (self._membership, self._facts):
            budget = _take(queue, limit, budget, max_rumours, chosen)
        return chosen


def _take(queue: dict[Topic, _Queued], limit: int, budget: int, max_rumours: int, chosen: list[bytes]) -> int:
    if not queue:
        return budget
    for topic, queued in sorted(queue.items(), key=_told):
        if len(chosen) >= max_rumours or budget < 40:
            break
        if queued.cost > budget:
            continue
        chosen.append(queued.payload)
        budget -= queued.cost
        queued.sent += 1
        if queued.sent >= limit:
            del queue[topic]
    return budget


def _told(item: tuple[Topic, _Queued]) -> int:
    return item[1].sent
