"""Facts that are only named: which of them are lacking, here or at a peer, and who is asked for them.

A fact is long, and most who are told of it know it: so packets say how far the sender's knowledge of a node's facts
goes, who lacks something asks, and who has more tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossip.broadcast import Broadcast
from gossip.facts import FactStore
from gossip.message import OutlineEntry
from transport.interface import NodeId

MAX_QUESTIONS = 4
"""How often one who has named a fact is asked for it; after that it may be named again, or comes by comparing notes."""


@dataclass(slots=True)
class _Lacking:
    """Facts of one node up to some version, which `peer` has. times: how often it was asked for them."""

    peer: NodeId
    facts: int
    times: int = 0


class Naming:
    """What has been named and not come yet."""

    def __init__(self, me: NodeId, facts: FactStore, rumours: Broadcast) -> None:
        self._me = me
        self._facts = facts
        self._rumours = rumours
        self._lacking: dict[NodeId, _Lacking] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to ask for."""
        return bool(self._lacking)

    def compare(self, entries: Iterable[OutlineEntry], peer: NodeId) -> tuple[list[NodeId], list[bytes]]:
        """Whose facts `peer` has more of, as it says, to be asked for; and facts that it lacks, as they are told."""
        lacking: list[NodeId] = []
        told: list[bytes] = []
        for entry in entries:
            named = self._facts.named(entry)
            if named is None:
                continue
            node, known = named
            if entry.facts < known:
                told.extend([fact.told for fact in self._facts.after(node, entry.facts)])
            elif entry.facts > known and node != self._me:
                self._lacking[node] = _Lacking(peer, entry.facts)
                lacking.append(node)
        return lacking, told

    def note_asked(self, nodes: Iterable[NodeId]) -> None:
        """These have been asked for between two rounds."""
        for node in nodes:
            self._lacking[node].times += 1

    def take_questions(self) -> dict[NodeId, list[NodeId]]:
        """Whom to ask in this round, and for whose facts: those that somebody has named and that have not come."""
        questions: dict[NodeId, list[NodeId]] = {}
        for node, lacking in list(self._lacking.items()):
            if self._facts.complete(node) >= lacking.facts or lacking.times >= MAX_QUESTIONS:
                del self._lacking[node]
                continue
            if lacking.times:
                # Question or answer was lost: whomever else this round reaches is shown as well how far it goes here.
                self._rumours.name(node)
            lacking.times += 1
            questions.setdefault(lacking.peer, []).append(node)
        return questions

    def has_come(self, node: NodeId) -> bool:
        """A fact of `node` is here, or will not come any more; whether somebody had named it."""
        return self._lacking.pop(node, None) is not None
