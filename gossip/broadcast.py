"""Rumours on their way out: which to put into the next packet, and when one has been told often enough.

Membership goes before facts, the least told first (SWIM §4.1); what is put last goes when there is room. One rumour
a topic: news replaces what it supersedes. A fact is long, most of it its signature, and most who are told of it know
it: so after a few whole tellings, those heard from others among them, it is only named, and who lacks it asks.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from gossip.message import (
    MAX_OUTLINE_ENTRIES,
    MAX_RUMOURS_PER_PACKET,
    NAMING_COST,
    RUMOUR_BUDGET_BYTES,
    fits_datagram,
    rumour_cost,
)
from transport.interface import NodeId

RETRANSMIT_FACTOR = 6
"""memberlist's 4 leaves 17 % of rumours incomplete at 30 % loss."""

WHOLE_TELLINGS = 3
"""Of a fact, those heard included. So many leave about one node in ten to be told by asking, at no loss."""

KNOWERS = 3
"""Peers whose outlines show that they know a rumour, after which it is told no more: chance picked them, so nearly all
know. Fewer, and one that lies about what it knows could end what it does not like."""

MAX_RUMOURS = 4096
# After this many that no longer fit, or with less room than an accusation takes, a packet is as good as full.
MAX_MISSES = 8
SMALLEST_COST = 64


class Topic(NamedTuple):
    """What a rumour is about. detail: a fact's key, an accuser, or nothing."""

    is_fact: bool
    subject: NodeId
    detail: str | bytes = b""


@lru_cache(maxsize=8)
def transmissions(nodes: int) -> int:
    """How often a rumour is sent in a mesh of `nodes`: 6·⌈log10(nodes + 1)⌉."""
    return RETRANSMIT_FACTOR * math.ceil(math.log10(nodes + 1))


class Filling(NamedTuple):
    """What goes into one packet. named: whose facts are told by name."""

    rumours: list[bytes]
    named: list[NodeId]


class Broadcast:
    """Rumours of both kinds, bounded. When one queue is full, its rumour told most often goes."""

    def __init__(self) -> None:
        self._membership = _Queue()
        self._named = _Names()
        self._facts = _Queue()
        self._last = _Queue()

    def __len__(self) -> int:
        queues = (self._membership, self._facts, self._last)
        return len(self._named) + sum(len(queue.rumours) for queue in queues)

    def __bool__(self) -> bool:
        return bool(self._named or self._membership.rumours or self._facts.rumours or self._last.rumours)

    def put(self, topic: Topic, payload: bytes, *, is_last: bool = False) -> None:
        """Start telling `payload`, instead of what was told on `topic`. Too large for a packet: left out."""
        queue = self._facts if topic.is_fact else self._membership
        queue.remove(topic)
        self._last.remove(topic)
        if fits_datagram(payload):
            (self._last if is_last else queue).add(topic, payload, rumour_cost(payload))

    def name(self, subject: NodeId) -> None:
        """Tell how far the facts of `subject` go, and not what they are."""
        self._named.add(subject)

    def heard(self, payload: bytes) -> None:
        """Another has told this as well."""
        rumour = self._facts.find(payload)
        if rumour is not None and self._facts.told(rumour, WHOLE_TELLINGS):
            self.name(rumour.topic.subject)

    def retract(self, subject: NodeId) -> None:
        """Stop telling anything about the standing of `subject`: there is later news."""
        self._membership.remove_subject(subject)
        self._last.remove_subject(subject, is_fact=False)

    def retract_facts(self, subject: NodeId) -> None:
        """Stop telling facts of `subject`: it has started anew."""
        self._named.remove(subject)
        self._facts.remove_subject(subject)
        self._last.remove_subject(subject, is_fact=True)

    def is_known_to(self, peer: NodeId, subject: NodeId, *, is_fact: bool) -> None:
        """`peer` has shown that it knows what is told of the standing, or of the facts, of `subject`."""
        for queue in (self._facts if is_fact else self._membership, self._last):
            queue.is_known_to(peer, subject, is_fact)

    def subjects(self) -> Set[NodeId]:
        """Whom there is something to tell about, more than the name."""
        return self._membership.subjects | self._facts.subjects | self._last.subjects

    def fill(self, limit: int, budget: int = RUMOUR_BUDGET_BYTES, max_rumours: int = MAX_RUMOURS_PER_PACKET) -> Filling:
        """Take rumours for one packet, at most `budget` bytes, forgetting those now told `limit` times."""
        rumours = self._membership.take(limit, budget, max_rumours)
        if rumours:
            budget -= _cost(rumours)
        named = self._named.take(limit + WHOLE_TELLINGS, min(budget // NAMING_COST, MAX_OUTLINE_ENTRIES))
        budget -= len(named) * NAMING_COST
        facts = self._facts.take(WHOLE_TELLINGS, budget, max_rumours - len(rumours))
        for fact in facts:
            if fact.level >= WHOLE_TELLINGS:
                self.name(fact.topic.subject)
        rumours += facts
        if self._last.rumours:
            rumours += self._last.take(limit, budget - _cost(facts), max_rumours - len(rumours))
        return Filling([rumour.payload for rumour in rumours], named)


class _Names:
    """Whose facts are told by name, and how often each was."""

    def __init__(self) -> None:
        self._told: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._told)

    def __bool__(self) -> bool:
        return bool(self._told)

    def add(self, subject: NodeId) -> None:
        self.remove(subject)
        self._told[subject] = 0

    def remove(self, subject: NodeId) -> None:
        self._told.pop(subject, None)

    def take(self, limit: int, count: int) -> list[NodeId]:
        """Up to `count`, those first that have waited longest."""
        names = self._told
        if len(names) <= count:
            # Their order stays as it is, so this need not turn them over one by one.
            self._told = {subject: told + 1 for subject, told in names.items() if told + 1 < limit}
            return list(names)
        taken = list(islice(names, max(0, count)))
        for subject in taken:
            told = names.pop(subject) + 1
            if told < limit:
                names[subject] = told
        return taken


@dataclass(slots=True, eq=False)
class _Rumour:
    """level: how often it has been told.  cost: bytes of a packet that it takes up.  knowers: who need not be told."""

    topic: Topic
    payload: bytes
    cost: int
    level: int = 0
    knowers: tuple[NodeId, ...] = ()


class _Queue:
    """Rumours by how often they have been told, so that the least told are at hand without sorting."""

    def __init__(self) -> None:
        self._levels: list[dict[Topic, _Rumour]] = [{}]
        self.rumours: dict[Topic, _Rumour] = {}
        self._payloads: dict[bytes, _Rumour] = {}
        self._topics: dict[NodeId, dict[Topic, None]] = {}

    def add(self, topic: Topic, payload: bytes, cost: int) -> None:
        """Queue a rumour that is not queued yet."""
        if len(self.rumours) >= MAX_RUMOURS:
            most_told = next(level for level in reversed(self._levels) if level)
            self.remove(next(iter(most_told)))
        rumour = _Rumour(topic, payload, cost)
        self._levels[0][topic] = self.rumours[topic] = self._payloads[payload] = rumour
        self._topics.setdefault(topic.subject, {})[topic] = None

    def remove(self, topic: Topic) -> None:
        rumour = self.rumours.pop(topic, None)
        if rumour is None:
            return
        del self._levels[rumour.level][topic]
        if self._payloads.get(rumour.payload) is rumour:  # two topics may read alike
            del self._payloads[rumour.payload]
        del self._topics[topic.subject][topic]
        if not self._topics[topic.subject]:
            del self._topics[topic.subject]

    def find(self, payload: bytes) -> _Rumour | None:
        """The queued rumour that reads so."""
        return self._payloads.get(payload)

    def remove_subject(self, subject: NodeId, is_fact: bool | None = None) -> None:
        """Remove all on `subject`, or all of one kind."""
        for topic in list(self._topics.get(subject, ())):
            if is_fact is None or topic.is_fact is is_fact:
                self.remove(topic)

    @property
    def subjects(self) -> Set[NodeId]:
        return self._topics.keys()

    def is_known_to(self, peer: NodeId, subject: NodeId, is_fact: bool) -> None:
        """Remove what enough peers know."""
        for topic in list(self._topics.get(subject, ())):
            rumour = self.rumours[topic]
            if topic.is_fact is is_fact and peer not in rumour.knowers:
                rumour.knowers += (peer,)
                if len(rumour.knowers) >= KNOWERS:
                    self.remove(topic)

    def take(self, limit: int, budget: int, max_rumours: int) -> list[_Rumour]:
        """What fits, least told first; each is told once more."""
        if max_rumours <= 0 or not self.rumours:
            return []
        taken = self._choose(budget, max_rumours)
        for rumour in taken:
            self.told(rumour, limit)
        return taken

    def told(self, rumour: _Rumour, limit: int) -> bool:
        """It has been told once more; whether that was enough, so that it is queued no longer."""
        if rumour.level + 1 >= limit:
            self.remove(rumour.topic)
            rumour.level += 1
            return True
        self._demote(rumour)
        return False

    def _choose(self, budget: int, max_rumours: int) -> list[_Rumour]:
        taken: list[_Rumour] = []
        misses = 0
        for level in self._levels:
            for rumour in level.values():
                if rumour.cost <= budget:
                    taken.append(rumour)
                    budget -= rumour.cost
                    max_rumours -= 1
                    if not max_rumours or budget < SMALLEST_COST:
                        return taken
                else:
                    misses += 1
                    if misses >= MAX_MISSES:
                        return taken
        return taken

    def _demote(self, rumour: _Rumour) -> None:
        topic, levels = rumour.topic, self._levels
        del levels[rumour.level][topic]
        rumour.level += 1
        if rumour.level == len(levels):
            levels.append({})
        levels[rumour.level][topic] = rumour


def _cost(rumours: list[_Rumour]) -> int:
    return sum(rumour.cost for rumour in rumours)
