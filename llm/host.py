"""Answers requests for the models this node serves, whether they come from here or over a stream.

Owns the engines' lives and the number of requests each takes. Which node answers is `placement`'s and
`client`'s business; a request for a model or a file that is not here is refused, never answered by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from llm.changes import Changes
from llm.chat import MAX_BODY_BYTES, Ask
from llm.engines.interface import Engine, Headers, Reply, Request
from llm.errors import BodyTooLarge, QueueFull, UnknownModel
from llm.offer import Offer, encode_offers
from llm.serving import serve
from transport.interface import Stream

QUEUE_LIMIT = 64
ANNOUNCE_INTERVAL_S = 1.0
MAX_HELD_BYTES = 256 << 20
"""Bodies that peers may have on this node at a time: four of the largest, thousands of usual ones."""


class Publish(Protocol):
    """Takes the `models` fact for gossip. is_urgent: a model came or went, not only its load changed."""

    def __call__(self, fact: bytes, *, is_urgent: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and the engine that serves it here.

    fingerprint, digest: `llm.offer.Offer`.  queue_limit: how many requests may wait beyond the engine's slots.
    """

    name: str
    engine: Engine
    fingerprint: str
    digest: str = ""
    queue_limit: int = QUEUE_LIMIT


class Host:
    """The models of this node. With none it still refuses in words."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = {model.name: model for model in models}
        self._in_flight = dict.fromkeys(self._models, 0)
        self._held_bytes = 0
        self._state_changes = Changes()
        self._changes = Changes()

    def offers(self) -> tuple[Offer, ...]:
        """What this node offers now, fresh."""
        return tuple(self._offer(model) for model in self._models.values())

    def identify(self, name: str, digest: str) -> None:
        """Note the SHA-256 of a model's files, once it has been computed."""
        self._models[name] = replace(self._models[name], digest=digest)
        self._changes.notify()

    async def changed(self) -> None:
        """Wait until an offer next changes: its state, its load or its digest."""
        await self._changes.wait()

    async def run(self, publish: Publish) -> None:
        """Run the engines and publish the `models` fact at every change, load at most once a second."""
        async with asyncio.TaskGroup() as group:
            for model in self._models.values():
                group.create_task(model.engine.run(), name=f"engine {model.name}")
                group.create_task(self._watch(model.engine), name=f"watch engine {model.name}")
            group.create_task(self._announce(publish), name="announce models")

    async def answer(self, request: Request) -> Reply:
        """The answer of the engine that serves `request.model`.

        Raises UnknownModel, QueueFull, EngineFailed. Deadlines are the caller's to keep.
        """
        model = self._models.get(request.model)
        if model is None:
            raise UnknownModel(request.model, list(self._models))
        self._check_room(model)
        self._count(model.name, 1)
        try:
            reply = await model.engine.answer(request)
        except BaseException:
            self._count(model.name, -1)
            raise
        return _CountedReply(reply, lambda: self._count(model.name, -1))

    async def serve(self, stream: Stream) -> None:
        """Answer the one request that a chat/1 stream carries. Raises ProtocolError, for the caller to count."""
        await serve(stream, self)

    @contextmanager
    def admit(self, ask: Ask) -> Iterator[None]:
        """Refuse before its body comes what would be refused after it; count the body while it is held."""
        self._check(ask)
        self._held_bytes += ask.body_bytes
        try:
            yield
        finally:
            self._held_bytes -= ask.body_bytes

    def _check(self, ask: Ask) -> None:
        if ask.body_bytes > MAX_BODY_BYTES:
            raise BodyTooLarge(MAX_BODY_BYTES)
        model = self._models.get(ask.model)
        if model is None or ask.identity not in ("", model.fingerprint, model.digest):
            error = UnknownModel(ask.model, list(self._models))
            # Its view was older than our models: it may find them elsewhere.
            error.retryable = True
            raise error
        self._check_room(model)
        if self._held_bytes + ask.body_bytes > MAX_HELD_BYTES:
            raise QueueFull(f"this node already holds request bodies of {self._held_bytes >> 20} MiB")

    def _check_room(self, model: ServedModel) -> None:
        limit = model.engine.status.slots + model.queue_limit
        if self._in_flight[model.name] >= limit:
            raise QueueFull(f"{limit} requests for model {model.name!r} are running or waiting on this node already")

    def _count(self, name: str, change: int) -> None:
        self._in_flight[name] += change
        self._changes.notify()

    def _offer(self, model: ServedModel) -> Offer:
        status = model.engine.status
        return Offer(
            name=model.name,
            fingerprint=model.fingerprint,
            digest=model.digest,
            kind=model.engine.kind,
            mode="solo",
            state=status.state.value,
            reason=status.reason[:512],
            context_tokens=status.context_tokens,
            slots=status.slots,
            in_flight=self._in_flight[model.name],
            tokens_per_s=status.tokens_per_s,
        )

    async def _watch(self, engine: Engine) -> None:
        while True:
            await engine.changed()
            self._state_changes.notify()
            self._changes.notify()

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


class _CountedReply:
    """A `Reply` that says once when it is closed. Its body is the engine's own, with nothing in between."""

    def __init__(self, reply: Reply, on_close: Callable[[], None]) -> None:
        self._reply = reply
        self._on_close = on_close
        self._is_closed = False

    @property
    def status(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> Headers:
        return self._reply.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return self._reply.chunks()

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._on_close()
            await self._reply.close()


def _states(offers: tuple[Offer, ...]) -> list[tuple[str, str]]:
    return [(offer.name, offer.state) for offer in offers]
