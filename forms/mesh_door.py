"""The mesh's door of bend: answers the one call that a `form/1` stream carries, and notices when nobody wants it.

A frame is measured while it comes, as on the wire door; what every door answers is `operations`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from forms.call_message import (
    SILENCE_S,
    WORKING_INTERVAL_S,
    FormAccepted,
    FormCall,
    FormMeasure,
    FormWorking,
    NodeMessage,
    answer_of,
    data_records,
    failure_of,
    message,
    read_question,
)
from forms.catalogue import Catalogue
from forms.computed import Computed
from forms.errors import BadSyntax, Busy, FormFailed
from forms.evaluate import error_frame, error_line
from forms.form import FRAME_LIMIT
from forms.reader import MAX_TEXT_BYTES
from forms.request import Request
from forms.text_framing import TextMeasure
from transport.budget import Allowance, PeerBudgets
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, Unreachable
from transport.identity import short
from transport.interface import NodeId, RecordKind, Role, Stream

logger = logging.getLogger("meshd.forms")

PAUSE_S = 30.0
"""How long an asker may take for the next piece of its call, or to read the next piece of its reply."""
LONGEST_CALL_S = 600.0
MAX_HELD_BYTES = 2 * FRAME_LIMIT
"""Of the calls of all askers together, before they are computed."""
MEMBERS = Allowance(in_flight=64, burst=2000, per_second=1000.0)
CLIENTS = Allowance(in_flight=8, burst=100, per_second=20.0)
TOGETHER = Allowance(in_flight=256, burst=4000, per_second=2000.0)


class Answers(Protocol):
    """What computes the calls."""

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def queue_s(self) -> float: ...

    async def answer(self, request: Request, deadline_s: float) -> Computed:
        """The reply; an error of the call is one too. Raises FormFailed for what this node could not do."""

    def measure_soon(self) -> None: ...


@dataclass(slots=True)
class MeshDoor:
    """Serves `form/1`. limit_bytes: of a call."""

    answers: Answers
    limit_bytes: int = FRAME_LIMIT
    _members: PeerBudgets = field(default_factory=lambda: PeerBudgets(MEMBERS, TOGETHER))
    _clients: PeerBudgets = field(default_factory=lambda: PeerBudgets(CLIENTS, TOGETHER))
    _held_bytes: int = 0

    async def serve(self, stream: Stream) -> None:
        """Answer the call that `stream` carries, and end the stream. Raises ProtocolError, for the caller to count."""
        try:
            await self._serve(stream)
        except ProtocolError:
            stream.reset(ResetCode.PROTOCOL_ERROR)
            raise
        except TimeoutError:
            stream.reset(ResetCode.DEADLINE)
        except (StreamReset, Unreachable) as error:
            logger.debug("a call of node %s: %s", short(stream.peer.node), error)
        except asyncio.CancelledError:
            stream.reset(ResetCode.SHUTDOWN)
            raise

    async def _serve(self, stream: Stream) -> None:
        async with asyncio.timeout(PAUSE_S):
            record = await stream.receive()
        if record is None or record.kind is not RecordKind.MESSAGE:
            raise ProtocolError(f"form/1: expected a FormCall first from node {short(stream.peer.node)}")
        question = read_question(record.payload, stream.peer.node)
        line = _Line(stream)
        if isinstance(question, FormMeasure):
            self.answers.measure_soon()
            await line.say(FormAccepted())
            await stream.finish()
            return
        try:
            with self._admitted(stream.peer.node, stream.peer.role, question.size):
                await self._answer_call(line, question)
        except FormFailed as error:
            await line.say(failure_of(error))
            await stream.finish()

    @contextlib.contextmanager
    def _admitted(self, node: NodeId, role: Role, size: int) -> Iterator[None]:
        """Room for one more call of this peer, while it lasts. Raises Busy."""
        budgets = self._clients if role is Role.CLIENT else self._members
        if self._held_bytes + size > MAX_HELD_BYTES:
            raise Busy(f"this node holds calls of {self._held_bytes >> 20} MiB already")
        if not budgets.take(node, asyncio.get_running_loop().time()):
            raise Busy("more calls of this node than are served at once")
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size
            budgets.give_back(node)

    async def _answer_call(self, line: _Line, call: FormCall) -> None:
        """Raises what the stream raises, and FormFailed for what is to be told."""
        budget_s = min(LONGEST_CALL_S, line.stream.header.deadline_ms / 1000 or LONGEST_CALL_S)
        await line.say(FormAccepted())
        try:
            request = Request(call.is_text, await line.receive_call(call.size, self._measure(call)))
        except FormFailed as error:
            refusal = Computed(error_line(error) if call.is_text else error_frame(error))
            await line.reply(refusal, 0.0, self.answers.queue_s)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        done = await line.while_wanted(_told(self.answers.answer(request, budget_s)))
        if isinstance(done, FormFailed):
            raise done
        if line.stream.header.request_id:
            _tell(line.stream, done, loop.time() - began)
        await line.reply(done, loop.time() - began, self.answers.queue_s)

    def _measure(self, call: FormCall) -> Callable[[bytearray], int]:
        """What says how long the call is, as far as it has come."""
        if call.is_text:
            text = TextMeasure(min(self.limit_bytes, MAX_TEXT_BYTES))
            return lambda received: text.advance(received) or len(received) + 1
        return _FrameMeasure(self.answers.catalogue, self.limit_bytes)


def _tell(stream: Stream, done: Computed, seconds: float) -> None:
    """A line in the log, for a call that somebody wants to follow."""
    asker, milliseconds = short(stream.peer.node), 1000 * seconds
    logger.info("%s for node %s: %d bytes in %.1f ms", done.form or "a call", asker, len(done.reply), milliseconds)


class _FrameMeasure:
    """A frame's measure, once its magic has come."""

    def __init__(self, catalogue: Catalogue, limit_bytes: int) -> None:
        self._catalogue = catalogue
        self._limit_bytes = limit_bytes
        self._measure: Callable[[bytearray], int] | None = None

    def __call__(self, received: bytearray) -> int:
        if len(received) < 4:
            return 4
        if self._measure is None:
            self._measure = self._catalogue.of_magic(bytes(received[:4])).measure(self._limit_bytes).advance
        return self._measure(received)


class _Line:
    """This node's end of the stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def say(self, content: NodeMessage) -> None:
        async with asyncio.timeout(PAUSE_S):
            await self.stream.send(message(content))

    async def reply(self, done: Computed, held_s: float, queue_s: float) -> None:
        await self.say(answer_of(done, held_s, queue_s))
        for record in data_records(done.reply):
            async with asyncio.timeout(PAUSE_S):
                await self.stream.send(record)
        await self.stream.finish()

    async def receive_call(self, size: int, measure: Callable[[bytearray], int]) -> bytes:
        """The call. Raises FormFailed for one that is condemned, once its end has come; ProtocolError."""
        received, needed, refusal = bytearray(), 1, None
        while size:
            part = await self._receive_data(size)
            size -= len(part)
            if refusal is None:
                received += part
                try:
                    needed = measure(received) if len(received) >= needed else needed
                except FormFailed as error:
                    received, refusal = bytearray(), error
        if refusal is None and needed != len(received):
            refusal = BadSyntax(f"form/1: expected one whole call of {len(received)} bytes, and it is not")
        if refusal is not None:
            raise refusal
        return bytes(received)

    async def _receive_data(self, most: int) -> bytes:
        async with asyncio.timeout(PAUSE_S):
            record = await self.stream.receive()
        if record is None or record.kind is not RecordKind.DATA or not 0 < len(record.payload) <= most:
            raise ProtocolError(f"form/1: expected {most} more bytes of a call from {short(self.stream.peer.node)}")
        return record.payload

    async def while_wanted(self, work: Coroutine[None, None, Computed | FormFailed]) -> Computed | FormFailed:
        """What `work` gives; meanwhile say that we live. Raises StreamReset, Unreachable once nobody wants it."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="compute for a peer")
            watching = group.create_task(_outcome(self._watch()), name="watch asker")
            saying = group.create_task(_outcome(self._say_working()), name="say working")
            await asyncio.wait((working, watching, saying), return_when=asyncio.FIRST_COMPLETED)
            for task in (working, watching, saying):
                if not task.done():
                    task.cancel()
        for ended in (watching, saying):
            if not ended.cancelled() and (error := ended.result()):
                raise error
        return working.result()

    async def _watch(self) -> None:
        """Raises once the asker has gone away, or when it says more."""
        record = await self.stream.receive()
        if record is not None:
            raise ProtocolError(f"form/1: expected nothing after the call from node {short(self.stream.peer.node)}")
        await asyncio.Event().wait()

    async def _say_working(self) -> None:
        while True:
            await asyncio.sleep(WORKING_INTERVAL_S)
            async with asyncio.timeout(SILENCE_S):
                await self.stream.send(message(FormWorking()))


async def _told(work: Awaitable[Computed]) -> Computed | FormFailed:
    try:
        return await work
    except FormFailed as error:
        return error


async def _outcome(work: Coroutine[None, None, None]) -> Exception | None:
    """What ended `work` in a way that belongs to this one stream; anything else is our own bug and rises."""
    try:
        await work
    except (MeshError, TimeoutError) as error:
        return error
    return None
