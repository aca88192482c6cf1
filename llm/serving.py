"""The host's end of a chat/1 stream: takes one request, gives its answer, notices when nobody wants it.

What is answered, and whether there is room, is `host`'s; the asker's end is `remote`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Protocol

from llm.chat import (
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
from llm.engines.interface import Reply, Request
from llm.errors import DeadlineExceeded, RequestFailed
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, Unreachable
from transport.identity import short
from transport.interface import Peer, Record, RecordKind, Role, Stream

logger = logging.getLogger("meshd.llm")

PAUSE_TIMEOUT_S = 30.0
"""How long an asker may take for its question, or for the next piece of its body."""
LONGEST_REQUEST_S = 3600.0


class Answerer(Protocol):
    """What answers the request."""

    def admit(self, ask: Ask, caller: str) -> AbstractContextManager[None]:
        """Hold room for what `ask` announces while its answer lasts. Raises RequestFailed before the body comes."""

    async def answer(self, request: Request) -> Reply: ...


async def serve(stream: Stream, answerer: Answerer) -> None:
    """Answer the one request that `stream` carries, and end the stream, whatever happens.

    Raises ProtocolError, for the caller to count against the peer.
    """
    try:
        await _serve(stream, answerer)
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


async def _serve(stream: Stream, answerer: Answerer) -> None:
    async with asyncio.timeout(PAUSE_TIMEOUT_S):
        ask = await _receive_ask(stream)
    async with asyncio.TaskGroup() as group:
        line = _Line(stream)
        answering = group.create_task(_outcome(_answer(line, ask, answerer)), name="answer")
        watching = group.create_task(_outcome(line.watch()), name="watch asker")
        saying = group.create_task(_outcome(line.say_working()), name="say working")
        tasks = (answering, watching, saying)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    for task in done:
        if error := task.result():
            raise error


async def _answer(line: _Line, ask: Ask, answerer: Answerer) -> None:
    """Send the answer to `ask`, or one Failure in its place or at its end."""
    header = line.stream.header
    budget_s = header.deadline_ms / 1000 or LONGEST_REQUEST_S
    failure = None
    try:
        async with asyncio.timeout(budget_s):
            caller = _caller(ask, line.stream.peer)
            with answerer.admit(ask, caller):
                await line.send(message(Accepted()))
                body = await _receive_body(line, ask.body_bytes)
                request = Request(
                    header.request_id,
                    ask.model,
                    ask.method,
                    ask.path,
                    ask.headers,
                    body,
                    budget_s,
                    caller,
                    on_progress=line.note,
                )
                await _pass_on(await answerer.answer(request), line)
    except TimeoutError:
        failure = failure_of(DeadlineExceeded("the request's time is over"), retryable=False)
    except RequestFailed as error:
        failure = failure_of(error, retryable=error.retryable and not line.sent_head)
    ended = "answered" if failure is None else f"failed: {failure.message}"
    logger.info("%s for %s, asked by node %s: %s", ask.path, ask.model, short(line.stream.peer.node), ended)
    async with asyncio.timeout(SILENCE_TIMEOUT_S):
        await line.end(failure)


class _Line:
    """The host's end of a chat/1 stream: knows what was sent, how long ago, and whether the body is complete."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.sent_head = False
        self._is_sending = False
        self._sent_lately = False
        self._is_over = False
        self._note = ""
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

    def note(self, progress: str) -> None:
        """Say so with the next Working."""
        self._note = progress[:512]

    def body_is_complete(self) -> None:
        self._has_body.set()

    async def say_working(self) -> None:
        """Send Working whenever nothing else was sent for an interval, until cancelled."""
        while True:
            self._sent_lately = False
            await asyncio.sleep(WORKING_INTERVAL_S)
            # While a record waits for credit it is the asker that rests.
            if not (self._is_sending or self._sent_lately or self._is_over):
                await self.stream.send(message(Working(self._note)))

    async def watch(self) -> None:
        """Wait for the asker to go away: raises what its stream raises, or ProtocolError when it says more."""
        await self._has_body.wait()
        record = await self.stream.receive()
        if record is not None:
            raise ProtocolError(f"chat/1: expected nothing after the body, got {_describe(record, self.stream)}")
        await asyncio.Event().wait()  # it finished its side early, which does not say that it lost interest


def _caller(ask: Ask, peer: Peer) -> str:
    """Whom to be fair to. A member is believed about its callers; a client, which could make some up, is one."""
    return short(peer.node) if peer.role is Role.CLIENT else f"{short(peer.node)}/{ask.caller}"


async def _receive_ask(stream: Stream) -> Ask:
    record = await stream.receive()
    if record is None or record.kind is not RecordKind.MESSAGE:
        raise ProtocolError(f"chat/1: expected an Ask first, got {_describe(record, stream)}")
    return read_ask(record.payload, stream.peer.node)


async def _receive_body(line: _Line, body_bytes: int) -> bytes:
    parts: list[bytes] = []
    missing = body_bytes
    while missing:
        async with asyncio.timeout(PAUSE_TIMEOUT_S):
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
