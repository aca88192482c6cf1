"""Answers requests for the models this node serves, whether they come from here or over a stream.

Owns the engines' lives and the number of requests each takes. Which node answers is `placement`'s and
`client`'s business; a request for a model or a file that is not here is refused, never answered by another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from llm.changes import Changes
from llm.chat import MAX_BODY_BYTES, Ask
from llm.engines.interface import Drafting, Engine, Reply, Request
from llm.engines.watched_reply import WatchedReply
from llm.errors import BodyTooLarge, QueueFull, UnknownModel
from llm.offer import Offer, encode_offers
from llm.serving import serve
from llm.sessions.names import check_kind, is_of_sessions
from llm.turns import Turns, takes_a_slot
from transport.interface import Stream

logger = logging.getLogger("meshd.llm")

QUEUE_LIMIT = 64
DRAIN_S = 30.0
ANNOUNCE_INTERVAL_S = 1.0
MAX_HELD_BYTES = 256 << 20
"""Bodies that peers may have on this node at a time: four of the largest, thousands of usual ones."""


class Publish(Protocol):
    """Takes the `models` fact for gossip. is_urgent: a model came or went, not only its load changed."""

    def __call__(self, fact: bytes, *, is_urgent: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and the engine that serves it here.

    fingerprint, digest, file_bytes: `llm.offer.Offer`.  queue_limit: how many requests may wait beyond the slots.
    """

    name: str
    engine: Engine
    fingerprint: str
    digest: str = ""
    queue_limit: int = QUEUE_LIMIT
    file_bytes: int = 0


@dataclass(slots=True)
class _Served:
    """A model that is here. task: runs its engine, once the host runs."""

    model: ServedModel
    turns: Turns
    in_flight: int = 0
    is_leaving: bool = False
    task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, model: ServedModel) -> _Served:
        return cls(model, Turns(model.name, lambda: model.engine.status.slots, model.queue_limit))


class Host:
    """The models of this node; they may come and go while it runs. With none it still refuses in words."""

    def __init__(self, models: Sequence[ServedModel] = ()) -> None:
        self._served = {model.name: _Served.of(model) for model in models}
        self._group: asyncio.TaskGroup | None = None
        self._held_bytes = 0
        self._state_changes = Changes()
        self._changes = Changes()

    def offers(self) -> tuple[Offer, ...]:
        """What this node offers now, fresh."""
        return tuple(_offer(served) for served in self._served.values())

    def add(self, model: ServedModel) -> None:
        """Serve `model` from now on. Raises ValueError when a model of that name is here, also one that is leaving."""
        if model.name in self._served:
            raise ValueError(f"this node serves a model called {model.name!r} already")
        served = self._served[model.name] = _Served.of(model)
        if self._group is not None:
            self._start(served, self._group)
        self._notify_of_state()

    async def remove(self, name: str, drain_s: float = DRAIN_S) -> None:
        """Take no more requests for model `name`, give those that run `drain_s` to end, then end its engine.

        Raises KeyError when it is not here. Cancelled, it still ends the engine.
        """
        served = self._served[name]
        served.is_leaving = True
        self._notify_of_state()
        try:
            await self._drained(served, drain_s)
        finally:
            if self._served.get(name) is served:
                del self._served[name]
            if served.task is not None:
                served.task.cancel()
            self._notify_of_state()
        if served.task is not None:
            await asyncio.wait([served.task])

    def identify(self, name: str, digest: str) -> None:
        """Note the SHA-256 of a model's files, once it has been computed; nothing when the model has gone since."""
        if served := self._served.get(name):
            served.model = replace(served.model, digest=digest)
            self._changes.notify()

    def waiting(self) -> dict[str, int]:
        """How many requests wait for a slot, by model."""
        return {name: served.turns.waiting for name, served in self._served.items()}

    def drafting(self) -> dict[str, Drafting]:
        """What becomes of drafts here, by model; those that nothing drafts for are left out."""
        stands = {name: served.model.engine.status.drafting for name, served in self._served.items()}
        return {name: stand for name, stand in stands.items() if stand is not None}

    async def changed(self) -> None:
        """Wait until an offer next changes: its state, its load or its digest."""
        await self._changes.wait()

    async def run(self, publish: Publish) -> None:
        """Run the engines and publish the `models` fact at every change, load at most once a second."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for served in self._served.values():
                    self._start(served, self._group)
                await self._announce(publish)
            finally:
                self._group = None

    async def answer(self, request: Request) -> Reply:
        """The answer of the engine that serves `request.model`.

        Raises UnknownModel, NoSessions, QueueFull, EngineFailed. Deadlines are the caller's to keep.
        """
        served = self._find(request.model)
        if served is None:
            raise UnknownModel(request.model, list(self._served))
        if is_of_sessions(request.path):
            check_kind(request.model, served.model.engine.kind)
        self._count(served, 1)
        try:
            finish = await _turn(served, request)
            try:
                reply = await served.model.engine.answer(request)
            except BaseException:
                finish()
                raise
        except BaseException:
            self._count(served, -1)
            raise

        def close() -> None:
            finish()
            self._count(served, -1)

        return WatchedReply(reply, close)

    async def serve(self, stream: Stream) -> None:
        """Answer the one request that a chat/1 stream carries. Raises ProtocolError, for the caller to count."""
        await serve(stream, self)

    @contextmanager
    def admit(self, ask: Ask, caller: str) -> Iterator[None]:
        """Refuse before its body comes what would be refused after it; count the body while it is held."""
        self._check(ask, caller)
        self._held_bytes += ask.body_bytes
        try:
            yield
        finally:
            self._held_bytes -= ask.body_bytes

    def _check(self, ask: Ask, caller: str) -> None:
        if ask.body_bytes > MAX_BODY_BYTES:
            raise BodyTooLarge(MAX_BODY_BYTES)
        served = self._find(ask.model)
        if served is None or ask.identity not in ("", served.model.fingerprint, served.model.digest):
            error = UnknownModel(ask.model, list(self._served))
            # Its view was older than our models: it may find them elsewhere.
            error.retryable = True
            raise error
        if takes_a_slot(ask.method, ask.path):
            served.turns.check(caller)
        if self._held_bytes + ask.body_bytes > MAX_HELD_BYTES:
            raise QueueFull(f"this node already holds request bodies of {self._held_bytes >> 20} MiB")

    def _find(self, name: str) -> _Served | None:
        served = self._served.get(name)
        return served if served is not None and not served.is_leaving else None

    def _count(self, served: _Served, change: int) -> None:
        served.in_flight += change
        self._changes.notify()

    async def _drained(self, served: _Served, drain_s: float) -> None:
        try:
            async with asyncio.timeout(drain_s):
                while served.in_flight:
                    await self._changes.wait()
        except TimeoutError:
            name, count = served.model.name, served.in_flight
            logger.warning("model %s goes with %d requests unanswered after %.0f s", name, count, drain_s)

    def _start(self, served: _Served, group: asyncio.TaskGroup) -> None:
        served.task = group.create_task(self._keep(served), name=f"model {served.model.name}")

    async def _keep(self, served: _Served) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(served), name="watch engine")  # first, or it misses the first change
            group.create_task(served.model.engine.run(), name="engine")

    def _notify_of_state(self) -> None:
        self._state_changes.notify()
        self._changes.notify()

    async def _watch(self, served: _Served) -> None:
        while True:
            await served.model.engine.changed()
            served.turns.advance()
            self._notify_of_state()

    async def _announce(self, publish: Publish) -> None:
        published: tuple[Offer, ...] = ()
        while True:
            offers = self.offers()
            if offers != published:
                publish(encode_offers(offers), is_urgent=_states(offers) != _states(published))
                published = offers
            await self._pause_unless_state_changes()
            if self.offers() == published:
                await self._changes.wait()

    async def _pause_unless_state_changes(self) -> None:
        try:
            async with asyncio.timeout(ANNOUNCE_INTERVAL_S):
                await self._state_changes.wait()
        except TimeoutError:
            return


def _states(offers: tuple[Offer, ...]) -> list[tuple[str, str]]:
    return [(offer.name, offer.state) for offer in offers]


async def _turn(served: _Served, request: Request) -> Callable[[], None]:
    """Wait until `request` may go to the engine. Call what is returned once it is over."""
    if not takes_a_slot(request.method, request.path):
        return lambda: None
    await served.turns.take(request.caller)
    loop = asyncio.get_running_loop()
    began = loop.time()
    return lambda: served.turns.give_back(loop.time() - began)


def _offer(served: _Served) -> Offer:
    model, status = served.model, served.model.engine.status
    return Offer(
        name=model.name,
        fingerprint=model.fingerprint,
        digest=model.digest,
        kind=model.engine.kind,
        mode=status.mode,
        state="draining" if served.is_leaving else status.state.value,
        reason="it is being unloaded" if served.is_leaving else status.reason[:512],
        context_tokens=status.context_tokens,
        slots=status.slots,
        in_flight=served.in_flight,
        tokens_per_s=status.tokens_per_s,
        parts=status.parts,
        missing_bytes=status.missing_bytes,
        file_bytes=model.file_bytes,
    )
