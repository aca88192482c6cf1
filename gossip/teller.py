"""What this node passes on: each piece of news as a rumour, behind those of others where its subject has had many.

A member that says something new all the time, or is accused all the time, would otherwise fill every packet, since
the newest rumour goes first. A client tells nothing.
"""

from __future__ import annotations

from collections import Counter

from gossip.broadcast import Broadcast, Topic
from gossip.facts import Fact
from gossip.member import MemberRecord
from transport.interface import NodeId

WINDOW_S = 10.0
STATEMENTS_PER_WINDOW = 100
"""Of one member about itself, told with the first: a busy one has five keys, paced to 2 s in a mesh of ten."""

ACCUSATIONS_PER_WINDOW = 16
"""Of one member. A death takes at most eight: four voices, suspicion and death of each."""


class Teller:
    """Queues rumours, and knows which subjects have had more than their share of late.

    counters: `told_last` counts what was put behind the rumours of others.
    """

    def __init__(self, counters: Counter[str], *, is_silent: bool) -> None:
        self._counters = counters
        self._is_silent = is_silent
        self._window_ends = float("-inf")
        self._told: dict[tuple[NodeId, bool], int] = {}
        self.rumours = Broadcast()

    def tell_record(self, record: MemberRecord, now: float) -> None:
        """Pass on what a member says of itself, instead of whatever was told of its standing."""
        self.rumours.retract(record.node)
        self._tell(Topic(False, record.node), record.encoded, now, STATEMENTS_PER_WINDOW)

    def tell_accusation(self, subject: NodeId, accuser: NodeId, payload: bytes, now: float) -> None:
        """Pass on one voice against a member."""
        self._tell(Topic(False, subject, accuser), payload, now, ACCUSATIONS_PER_WINDOW)

    def tell_fact(self, fact: Fact, now: float) -> None:
        """Pass on a fact, instead of the one of that key before it."""
        self._tell(Topic(True, fact.node, fact.key), fact.told, now, STATEMENTS_PER_WINDOW)

    def forget(self, node: NodeId) -> None:
        """Tell nothing more of a member that is none any more."""
        self.rumours.retract(node)
        self.rumours.retract_facts(node)

    def _tell(self, topic: Topic, payload: bytes, now: float, share: int) -> None:
        if self._is_silent:
            return
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_S
            self._told.clear()
        key = (topic.subject, share == ACCUSATIONS_PER_WINDOW)
        told = self._told[key] = self._told.get(key, 0) + 1
        if told > share:
            self._counters["told_last"] += 1
        self.rumours.put(topic, payload, is_last=told > share)
