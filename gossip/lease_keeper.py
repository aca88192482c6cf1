"""The host's end of `lease/1`: asks workers for leases, renews them in time, and says which may be used.

What is asked when, and what an answer is worth, is decided in `tenure`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from gossip.lease_message import MAX_MESSAGE_BYTES, PROTOCOL, LeaseKind, read_reply
from gossip.tenure import (
    ASK_S,
    Answered,
    Ask,
    Effect,
    Event,
    Failed,
    Gained,
    Hold,
    Lease,
    LetGo,
    Lost,
    Stale,
    Tenure,
    Tick,
)
from transport import wire
from transport.errors import MeshError
from transport.identity import RandomBytes, short
from transport.interface import NodeId, StreamHeader
from transport.question import Opener, ask

logger = logging.getLogger("meshd.gossip")

_HEADER = StreamHeader(PROTOCOL, "", int(ASK_S * 1000))


def ignore_stale(resource: str, term: int) -> None:
    """For a host whose claims nobody contests."""


class LeaseKeeper:
    """Every lease that this node, as a host, has or wants. `hold` may be called before `run`.

    clock: monotonic seconds, best those that go on while the machine sleeps.  on_stale: told that the claim to a
    resource has to be made anew, above a term.
    """

    def __init__(
        self,
        opener: Opener,
        clock: Callable[[], float],
        on_stale: Callable[[str, int], None] = ignore_stale,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        self._opener = opener
        self._clock = clock
        self._on_stale = on_stale
        self._tenure = Tenure(random_bytes)
        self._group: asyncio.TaskGroup | None = None
        self._holds: dict[tuple[str, LeaseKind], Hold] = {}
        self._has_left = False
        self._farewells: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    def hold(self, hold: Hold) -> None:
        """Want leases of exactly these workers from now on. Saying it again changes nothing."""
        if not self._has_left:
            self._holds[hold.resource, hold.purpose] = hold
            self._wake.set()

    def leases(self, resource: str, purpose: LeaseKind = "work") -> dict[NodeId, Lease]:
        """The leases that may be used at this very moment, by worker. Look before every use."""
        return self._tenure.leases(self._clock(), resource, purpose)

    def all_leases(self) -> dict[Lease, float]:
        """Every lease that may be used now, and for how many seconds more."""
        now = self._clock()
        return {lease: lease.usable_until - now for lease in self._tenure.all_leases(now)}

    def refusals(self, resource: str, purpose: LeaseKind = "work") -> Mapping[NodeId, str]:
        """Why the workers that have given none have not."""
        return self._tenure.refusals(resource, purpose)

    async def changed(self) -> None:
        """Wait until a lease is next gained or lost. Nothing is missed between a look and this call."""
        await self._changed.wait()

    async def run(self) -> None:
        """Ask and renew until cancelled. What is held then just runs out, unless `leave` came first."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                while True:
                    self._take_holds()
                    self._feed(Tick())
                    await self._rest()
            finally:
                self._group = None

    async def leave(self, deadline_s: float) -> None:
        """Let go of everything for good, until the workers know it or time is up: no successor has to wait."""
        self._has_left, self._holds = True, {}
        if self._group is None:
            return
        for resource, purpose in sorted(self._tenure.wanted):
            self._feed(Hold(resource, purpose, 1, {}))
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=deadline_s)

    def _take_holds(self) -> None:
        holds, self._holds = self._holds, {}
        for hold in holds.values():
            self._feed(hold)

    async def _rest(self) -> None:
        """Until the decider's next deadline, or until something is wanted."""
        pause_s = self._tenure.next_deadline - self._clock()
        try:
            async with asyncio.timeout(max(0.0, pause_s) if pause_s < float("inf") else None):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _feed(self, event: Event) -> None:
        for effect in self._tenure.handle(self._clock(), event):
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Ask():
                self._start(self._ask(effect), f"lease of {short(effect.worker)}")
            case LetGo():
                farewell = self._start(self._let_go(effect), f"let go of {short(effect.worker)}")
                self._farewells.add(farewell)
                farewell.add_done_callback(self._farewells.discard)
            case Gained(lease):
                logger.info(
                    "node %s works under %s, term %d", short(lease.seat.worker), lease.seat.resource, lease.term
                )
                self._ring()
            case Lost(lease, reason):
                worker, resource = short(lease.seat.worker), lease.seat.resource
                logger.info("node %s works no more under %s, term %d: %s", worker, resource, lease.term, reason)
                self._ring()
            case Stale(resource, term):
                self._on_stale(resource, term)

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=name)

    async def _ask(self, question: Ask) -> None:
        try:
            answer = await ask(self._opener, question.worker, _HEADER, wire.encode(question.request), MAX_MESSAGE_BYTES)
            event: Event = Answered(question.number, read_reply(answer, question.worker))
        except MeshError as error:
            logger.debug("no lease of node %s: %s", short(question.worker), error)
            event = Failed(question.number, str(error))
        self._feed(event)
        self._wake.set()

    async def _let_go(self, message: LetGo) -> None:
        try:
            await ask(self._opener, message.worker, _HEADER, wire.encode(message.release), MAX_MESSAGE_BYTES)
        except MeshError as error:
            logger.debug("node %s was not told that a lease is let go: %s", short(message.worker), error)
