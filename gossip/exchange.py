"""Anti-entropy: what to tell a peer, given the outline of what it knows (Scuttlebutt).

The opener sends its digest; the answer is pages of what the opener lacks, then the answerer's own digest,
to which the opener replies in pages. A node's facts go whole or not at all, so that an exchange cut
short by its budget leaves nothing half-told; the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator

from gossip.facts import Fact, FactStore
from gossip.member import Standing
from gossip.message import PAGE_BYTES, Delta, DeltaEntry, Digest, DigestEntry
from gossip.roster import Member, Roster
from gossip.view import Status
from transport import wire
from transport.interface import Role

EXCHANGE_BYTES = 4 * 1024 * 1024
"""All pages of one answer together, rounded up to a whole node."""

ENTRIES_PER_PAGE = 256
_ENTRY_OVERHEAD_BYTES = 64


class Exchange:
    """Makes digests and the answers to them. The encoded digest is kept until something changes."""

    def __init__(self, roster: Roster, facts: FactStore) -> None:
        self._roster = roster
        self._facts = facts
        self._digests: dict[bool, bytes] = {}
        self._digest_version = (-1, -1)

    def digest(self, is_request: bool) -> bytes:
        """This node's knowledge in outline, encoded."""
        version = (self._roster.version, self._facts.version)
        if version != self._digest_version:
            self._digests.clear()
            self._digest_version = version
        known = self._digests.get(is_request)
        if known is None:
            known = self._digests[is_request] = wire.encode(Digest(is_request, tuple(self._outline())))
        return known

    def answer(self, digest: Digest, now: float) -> list[bytes]:
        """Encoded pages of what the sender of `digest` lacks; one page at least."""
        known = {entry.node: entry for entry in digest.entries}
        pages: list[list[DeltaEntry]] = [[]]
        page_bytes = total_bytes = 0
        has_more = False
        for member in self._shared():
            outline = known.get(member.node)
            if outline is not None and self._is_equal(member, outline):
                continue
            for entry in self._lacking(member, outline, now):
                cost = _cost(entry)
                if page_bytes and (page_bytes + cost > PAGE_BYTES or len(pages[-1]) >= ENTRIES_PER_PAGE):
                    pages.append([])
                    page_bytes = 0
                pages[-1].append(entry)
                page_bytes += cost
                total_bytes += cost
            if total_bytes > EXCHANGE_BYTES:
                has_more = True
                break
        last = len(pages) - 1
        return [wire.encode(Delta(tuple(page), has_more and index == last)) for index, page in enumerate(pages)]

    def _shared(self) -> list[Member]:
        return [member for member in self._roster.members() if member.record.role is not Role.CLIENT]

    def _outline(self) -> Iterator[DigestEntry]:
        for member in self._shared():
            record = member.record
            complete = self._facts.complete(member.node)
            yield DigestEntry(member.node, record.boot, record.incarnation, member.status, complete)

    def _is_equal(self, member: Member, known: DigestEntry) -> bool:
        """Whether the peer knows just as much of `member`: true of nearly all, so asked first."""
        record = member.record
        return (
            known.boot == record.boot
            and known.incarnation == record.incarnation
            and known.status == member.status
            and known.facts == self._facts.complete(record.node)
        )

    def _lacking(self, member: Member, known: DigestEntry | None, now: float) -> Iterator[DeltaEntry]:
        """Entries that bring a peer that knows `known` up to date on `member`, each small enough for a page."""
        is_news = known is None or Standing(known.boot, known.incarnation, known.status) < member.standing
        has_table = known is not None and known.boot == member.record.boot
        facts = self._facts.after(member.node, known.facts if known is not None and has_table else 0)
        if known is not None and known.boot > member.record.boot:
            facts = []
        batches = list(_batches(facts))
        if is_news:
            yield self._entry(member, batches.pop(0) if batches else [], now, with_record=True)
        for batch in batches:
            yield self._entry(member, batch, now, with_record=False)

    def _entry(self, member: Member, facts: list[Fact], now: float, *, with_record: bool) -> DeltaEntry:
        is_gone = member.status in (Status.DEAD, Status.LEFT)
        return DeltaEntry(
            member.node,
            member.record.encoded if with_record else b"",
            member.status,
            member.accuser or b"",
            max(0.0, now - member.since) if is_gone else 0.0,
            tuple(fact.encoded for fact in facts),
        )


def _batches(facts: list[Fact]) -> Iterator[list[Fact]]:
    """Cut `facts`, in order, into runs of at most a page."""
    batch: list[Fact] = []
    batch_bytes = 0
    for fact in facts:
        if batch and batch_bytes + len(fact.encoded) > PAGE_BYTES // 2:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(fact)
        batch_bytes += len(fact.encoded)
    if batch:
        yield batch


def _cost(entry: DeltaEntry) -> int:
    return _ENTRY_OVERHEAD_BYTES + len(entry.record) + sum(len(fact) + 5 for fact in entry.facts)
