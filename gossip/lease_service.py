"""The worker's end of `lease/1`: answers hosts, has the fence on disk first, and says which leases count.

Who gets what is decided in `grant`; what is served under a lease is for those who look at `find` and `changed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gossip.fence_book import FenceBook
from gossip.grant import (
    Answer,
    Asked,
    Began,
    Effect,
    Ended,
    Event,
    Grant,
    Grants,
    LetGo,
    NotRemembered,
    Remember,
    Room,
    Tick,
    any_room,
)
from gossip.lease import standing_claim
from gossip.lease_message import (
    MAX_MESSAGE_BYTES,
    LeaseGranted,
    LeaseRefused,
    LeaseRelease,
    LeaseRequest,
    Question,
    RefusalCode,
    Reply,
    read_lease_text,
    read_question,
)
from gossip.view import View
from transport import wire
from transport.budget import Allowance, PeerBudgets
from transport.identity import short
from transport.interface import Peer, Stream
from transport.question import serve_question

logger = logging.getLogger("meshd.gossip")

DEADLINE_S = 2.0
EACH = Allowance(in_flight=64, burst=256, per_second=64.0)
TOGETHER = Allowance(in_flight=256, burst=2048, per_second=512.0)
"""A host renews at most `MAX_LEASES_PER_HOST` leases every 3 s here, 22 a second, and all of them at most 43."""


class LeaseService:
    """Every lease that this node, as a worker, has given.

    view: this node's, as it is now.  clock: monotonic seconds, best those that go on while the machine sleeps.
    book: None where the fences on disk cannot be read, and nothing may be promised.
    """

    def __init__(
        self, book: FenceBook | None, view: Callable[[], View], clock: Callable[[], float], room: Room = any_room
    ) -> None:
        self._book = book
        self._view = view
        self._clock = clock
        self._grants = Grants(book.fences, clock(), room) if book is not None else None
        self._budgets = PeerBudgets(EACH, TOGETHER)
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    def find(self, host: Peer, lease: str) -> Grant | None:
        """The lease that `lease` names (`lease_message.lease_text`), when it is `host`'s and counts at this moment."""
        named = read_lease_text(lease)
        if named is None or self._grants is None:
            return None
        return self._grants.find(self._clock(), host.node, host.boot, *named)

    def grants(self) -> dict[Grant, float]:
        """Every lease that counts now, and for how many seconds more unless it is renewed."""
        now = self._clock()
        found = self._grants.grants(now) if self._grants is not None else ()
        return {grant: grant.until - now for grant in found}

    def has_own_vote(self, resource: str) -> bool:
        """As `Grants.has_own_vote`; False while this node grants nothing."""
        return self._grants is not None and self._grants.has_own_vote(self._clock(), resource)

    async def changed(self) -> None:
        """Wait until a lease next begins or ends. Nothing is missed between a look and this call."""
        await self._changed.wait()

    async def run(self) -> None:
        """Let leases run out until cancelled."""
        while self._grants is not None:
            self._perform_now(self._grants.handle(self._clock(), Tick()))
            pause_s = self._grants.next_deadline - self._clock()
            try:
                async with asyncio.timeout(max(0.0, pause_s) if pause_s < float("inf") else None):
                    await self._wake.wait()
                self._wake.clear()
            except TimeoutError:
                continue

    async def serve(self, stream: Stream) -> None:
        """Answer one `lease/1` stream. Raises MeshError for what goes wrong with it."""
        await serve_question(stream, self._answer, DEADLINE_S, MAX_MESSAGE_BYTES)

    async def _answer(self, host: Peer, message: bytes) -> bytes:
        if not self._budgets.take(host.node, asyncio.get_running_loop().time()):
            return wire.encode(LeaseRefused(RefusalCode.BUSY, "this node is asked for leases too often"))
        try:
            return wire.encode(await self._reply(host, read_question(message, host.node)))
        finally:
            self._budgets.give_back(host.node)

    async def _reply(self, host: Peer, question: Question) -> Reply:
        if self._book is None or self._grants is None:
            return LeaseRefused(RefusalCode.BUSY, "the file of fences at this node is damaged; see its log")
        event = self._event(host, question, self._book)
        reply = await self._perform(self._grants, event, self._book)
        self._wake.set()
        if isinstance(reply, LeaseRefused):
            resource = wire.printable(question.resource, 160)
            logger.debug("no lease on %s for host %s: %s", resource, short(host.node), reply.words)
        return reply

    def _event(self, host: Peer, question: Question, book: FenceBook) -> Event:
        match question:
            case LeaseRequest():
                claim = standing_claim(self._view(), question.resource, book.highest_term(question.resource))
                return Asked(host.node, host.boot, question, claim)
            case LeaseRelease():
                return LetGo(host.node, question)

    async def _perform(self, grants: Grants, event: Event, book: FenceBook) -> Reply:
        """Perform effects in order; what follows a Remember waits for the disk, and is not done without it."""
        effects = grants.handle(self._clock(), event)
        for index, effect in enumerate(effects):
            match effect:
                case Remember():
                    try:
                        await book.saved()
                    except OSError:
                        self._take_back(grants, effects[index:])
                        return LeaseRefused(RefusalCode.BUSY, "this node cannot write its fences to disk")
                    except asyncio.CancelledError:
                        self._take_back(grants, effects[index:])
                        raise
                case Answer(LeaseGranted()) if not self._counts(grants, event):
                    # While the disk was waited for, a higher term came, or another question of this host was given up.
                    return LeaseRefused(RefusalCode.BUSY, "this lease ended before it was on disk; ask again")
                case Answer(reply):
                    return reply
                case Began() | Ended():
                    self._perform_now([effect])
        raise AssertionError("every question has its answer")

    def _counts(self, grants: Grants, event: Event) -> bool:
        assert isinstance(event, Asked)
        request = event.request
        return grants.find(self._clock(), event.host, event.boot, request.lease, request.term) is not None

    def _take_back(self, grants: Grants, undone: list[Effect]) -> None:
        for effect in undone:
            if isinstance(effect, Began):
                self._perform_now(grants.handle(self._clock(), NotRemembered(effect.grant.lease)))

    def _perform_now(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Began(grant):
                    resource = wire.printable(grant.resource, 160)
                    logger.info("granted %s to host %s, term %d", resource, short(grant.host), grant.term)
                case Ended(grant, reason):
                    resource = wire.printable(grant.resource, 160)
                    logger.info("lease on %s of host %s ended: %s", resource, short(grant.host), reason)
                case Answer() | Remember():
                    continue
            self._changed.set()
            self._changed = asyncio.Event()
