"""Answers requests for the models this node serves, whether they come from here or over a stream.

Owns the engines' lives and the number of requests each takes. Which node answers is `placement`'s and
`client`'s business; a request for a model or a file that is not here is refused, never answered by another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from llm.changes import Changes
from llm.chat import (
    MAX_BODY_BYTES,
    SILENCE_TIMEOUT_S,
    WORKING_INTERVAL_S,
    Accepted,
    Ask,
    Failure,
    Head,
    Working,
    data_records,
    failure_of,
    message,
    read_ask,
)
from llm.engines.interface import Engine, Headers, Reply, Request
from llm.errors import BodyTooLarge, DeadlineExceeded, QueueFull, RequestFailed, UnknownModel
from llm.offer import Offer, encode_offers
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, Unreachable
from transport.identity import short
from transport.interface import Record, RecordKind, Stream

logger = logging.getLogger("meshd.llm")

QUEUE_LIMIT = 64
ANNOUNCE_INTERVAL_S = 1.0
BODY_PAUSE_TIMEOUT_S = 30.0
LONGEST_REQUEST_S = 3600.0


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
        """Answer the one request that a chat/1 stream carries. Ends that stream, whatever happens to it.

        Raises ProtocolError, for the caller to count against the peer.
        """
        try:
            await self._serve(stream)
        except ProtocolError:
            stream.reset(ResetCode.PROTOCOL_ERROR)
            raise
        except TimeoutError:
            stream.reset(ResetCode.DEADLINE)
        except (StreamReset, Unreachable) as error:
            # The asker went away; there is nobody to tell.
            logger.debug("request %s of node %s: %s", stream.header.request_id, short(stream.peer.node), error)
        except asyncio.CancelledError:
            stream.reset(ResetCode.SHUTDOWN)
            raise

    async def _serve(self, stream: Stream) -> None:
        async with asyncio.timeout(BODY_PAUSE_TIMEOUT_S):
            ask = await _receive_ask(stream)
        async with asyncio.TaskGroup() as group:
            line = _Line(stream)
            answering = group.create_task(_outcome(self._answer_on(line, ask)), name="answer")
            watching = group.create_task(_outcome(line.watch()), name="watch asker")
            saying = group.create_task(_outcome(line.say_working()), name="say working")
            tasks = (answering, watching, saying)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        for task in done:
            if error := task.result():
                raise error

    async def _answer_on(self, line: _Line, ask: Ask) -> None:
        """Send the answer to `ask`, or one Failure in its place or at its end."""
        budget_s = line.stream.header.deadline_ms / 1000 or LONGEST_REQUEST_S
        try:
            async with asyncio.timeout(budget_s):
                self._check(ask)
                await line.send(message(Accepted()))
                body = await _receive_body(line, ask.body_bytes)
                headers = ask.headers
                request_id = line.stream.header.request_id
                request = Request(request_id, ask.model, ask.method, ask.path, headers, body, budget_s)
                await _pass_on(await self.answer(request), line)
            failure = None
        except TimeoutError:
            failure = failure_of(DeadlineExceeded("the request's time is over"), retryable=False)
        except RequestFailed as error:
            failure = failure_of(error, retryable=error.retryable and not line.sent_head)
        async with asyncio.timeout(SILENCE_TIMEOUT_S):
            await line.end(failure)

    def _check(self, ask: Ask) -> None:
        """Refuse before the body comes what would be refused after it."""
        if ask.body_bytes > MAX_BODY_BYTES:
            raise BodyTooLarge(MAX_BODY_BYTES)
        model = self._models.get(ask.model)
        if model is None or ask.identity not in ("", model.fingerprint, model.digest):
            error = UnknownModel(ask.model, list(self._models))
            # Its view was older than our models: it may find them elsewhere.
            error.retryable = True
            raise error
        self._check_room(model)

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


class _Line:
    """The host's end of a chat/1 stream: knows what was sent, how long ago, and whether the body is complete."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.sent_head = False
        self._is_sending = False
        self._sent_lately = False
        self._is_over = False
        self._has_body = asyncio.Event()

    async def send(self, record: Record) -> None:
        self._is_sending = True
        try:
            await self.stream.send(record)
        finally:
            self._is_sending = False
            self._sent_lately = True

    async def end(self, failure: Failure | None) -> None:
        if failure is not None:
            await self.send(message(failure))
        self._is_over = True
        await self.stream.finish()

    def body_is_complete(self) -> None:
        self._has_body.set()

    async def say_working(self) -> None:
        """Send Working whenever nothing else was sent for an interval, until cancelled."""
        working = message(Working())
        while True:
            self._sent_lately = False
            await asyncio.sleep(WORKING_INTERVAL_S)
            # While a record waits for credit it is the asker that rests.
            if not (self._is_sending or self._sent_lately or self._is_over):
                await self.stream.send(working)

    async def watch(self) -> None:
        """Wait for the asker to go away: raises what its stream raises, or ProtocolError when it says more."""
        await self._has_body.wait()
        record = await self.stream.receive()
        if record is not None:
            raise ProtocolError(f"chat/1: expected nothing after the body, got {_describe(record, self.stream)}")
        await asyncio.Event().wait()  # it finished its side early, which does not say that it lost interest


def _states(offers: tuple[Offer, ...]) -> list[tuple[str, str]]:
    return [(offer.name, offer.state) for offer in offers]


async def _receive_ask(stream: Stream) -> Ask:
    record = await stream.receive()
    if record is None or record.kind is not RecordKind.MESSAGE:
        raise ProtocolError(f"chat/1: expected an Ask first, got {_describe(record, stream)}")
    return read_ask(record.payload, stream.peer.node)


async def _receive_body(line: _Line, body_bytes: int) -> bytes:
    parts: list[bytes] = []
    missing = body_bytes
    while missing:
        async with asyncio.timeout(BODY_PAUSE_TIMEOUT_S):
            record = await line.stream.receive()
        if record is None or record.kind is not RecordKind.DATA or not 0 < len(record.payload) <= missing:
            got = _describe(record, line.stream)
            raise ProtocolError(f"chat/1: expected the {missing} bytes left of the body, got {got}")
        parts.append(record.payload)
        missing -= len(record.payload)
    line.body_is_complete()
    return b"".join(parts)


async def _pass_on(reply: Reply, line: _Line) -> None:
    try:
        await line.send(message(Head(reply.status, reply.headers)))
        line.sent_head = True
        async for chunk in reply.chunks():
            for record in data_records(chunk):
                await line.send(record)
    finally:
        await reply.close()


async def _outcome(work: Coroutine[None, None, None]) -> Exception | None:
    """What ended `work` in a way that belongs to this one stream; anything else is our own bug and rises."""
    try:
        await work
    except (MeshError, TimeoutError) as error:
        return error
    return None


def _describe(record: Record | None, stream: Stream) -> str:
    what = "the end of the stream" if record is None else f"a {record.kind.name} of {len(record.payload)} bytes"
    return f"{what} from node {short(stream.peer.node)}"
