"""Asks another node of the mesh to compute a call: the asker's end of `form/1`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from forms.backend import Backend
from forms.call_message import (
    DATA_BYTES,
    PROTOCOL,
    SILENCE_S,
    FormAccepted,
    FormAnswer,
    FormCall,
    FormFailure,
    FormMeasure,
    FormWorking,
    NodeMessage,
    data_records,
    error_of,
    message,
    read_answer,
)
from forms.computed import Computed
from forms.errors import WorkerLost
from forms.request import Request
from forms.ways import Carried, is_bulk
from transport.errors import MeshError, ProtocolError, ResetCode
from transport.interface import NodeId, RecordKind, Stream, StreamHeader, Transport

OPEN_S = 5.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply from elsewhere, what carrying it took, and how long another call would wait there."""

    done: Computed
    carried: Carried
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Errand:
    """Whom to ask for what. request_id: for logs at both ends.  reply_bytes: about, for the choice of a carrier."""

    node: NodeId
    node_name: str
    request: Request
    deadline_s: float
    request_id: str = ""
    reply_bytes: int = 0


class BrokeOff(WorkerLost):
    """The stream broke before the reply was whole; the node may be well."""


async def ask(transport: Transport, errand: Errand) -> Answered:
    """The node's reply. Raises WorkerLost when it is gone or silent, and Busy, NotFound as it says it."""
    try:
        return await _ask(transport, errand)
    except BrokeOff:
        if not is_bulk(len(errand.request.payload), errand.reply_bytes):
            raise
    return await _ask(transport, errand)  # a bulk lane may break while its link stays (transport.interface)


async def _ask(transport: Transport, errand: Errand) -> Answered:
    loop = asyncio.get_running_loop()
    began = loop.time()
    line = await _opened(transport, errand)
    try:
        async with asyncio.timeout(errand.deadline_s):
            await _send(line, errand.request)
            answer = await _answer(line)
            answered = loop.time()
            reply = await _reply(line, answer.size)
    except TimeoutError as error:
        line.stream.reset(ResetCode.CANCELLED)
        raise WorkerLost(f"node {errand.node_name} did not answer within {errand.deadline_s:g} s") from error
    except BaseException:
        line.stream.reset(ResetCode.CANCELLED)
        raise
    up_s = max(0.0, answered - began - answer.held_s)
    carried = Carried(len(errand.request.payload), up_s, len(reply), loop.time() - answered)
    return Answered(_computed(answer, reply), carried, answer.queue_s)


async def ask_to_measure(transport: Transport, node: NodeId) -> bool:
    """Have `node` find out what its forms cost; whether it heard."""
    try:
        async with asyncio.timeout(OPEN_S):
            stream = await transport.open(node, StreamHeader(PROTOCOL, "", int(OPEN_S * 1000)))
            try:
                await stream.send(message(FormMeasure()))
                await stream.finish()
                return await stream.receive() is not None
            except BaseException:
                stream.reset(ResetCode.CANCELLED)
                raise
    except (MeshError, TimeoutError):
        return False


async def _opened(transport: Transport, errand: Errand) -> _Line:
    header = StreamHeader(PROTOCOL, errand.request_id, max(1, round(errand.deadline_s * 1000)))
    bulk = is_bulk(len(errand.request.payload), errand.reply_bytes)
    try:
        async with asyncio.timeout(OPEN_S):
            stream = await transport.open(errand.node, header, bulk=bulk)
    except (MeshError, TimeoutError) as error:
        raise WorkerLost(f"node {errand.node_name} cannot be reached: {error}") from error
    return _Line(stream, errand.node_name)


async def _send(line: _Line, request: Request) -> None:
    await line.send_message(FormCall(request.is_text, len(request.payload)))
    if len(request.payload) > DATA_BYTES:
        # Its refusal would find us waiting for credit that never comes; a round trip is little beside such a call.
        accepted = await line.receive_message()
        if not isinstance(accepted, FormAccepted):
            raise line.out_of_turn(accepted)
    await line.send_data(request.payload)


async def _answer(line: _Line) -> FormAnswer:
    while True:
        answer = await line.receive_message()
        if isinstance(answer, FormAnswer):
            return answer
        if not isinstance(answer, FormAccepted | FormWorking):
            raise line.out_of_turn(answer)


async def _reply(line: _Line, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = await line.receive_data(size)
        parts.append(part)
        size -= len(part)
    await line.finish()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _computed(answer: FormAnswer, reply: bytes) -> Computed:
    backend = Backend(answer.backend) if answer.backend in set(Backend) else None
    return Computed(reply, answer.form, backend, answer.work, answer.seconds, answer.is_cold)


class _Line:
    """The asker's end of the stream, with the transport's errors turned into ours."""

    def __init__(self, stream: Stream, node_name: str) -> None:
        self.stream = stream
        self.node_name = node_name

    async def send_message(self, content: FormCall) -> None:
        try:
            await self.stream.send(message(content))
        except MeshError as error:
            raise self._translated(error) from error

    async def send_data(self, payload: bytes) -> None:
        """A piece that nobody takes for so long is a node that is gone."""
        try:
            for record in data_records(payload):
                async with asyncio.timeout(SILENCE_S):
                    await self.stream.send(record)
        except (MeshError, TimeoutError) as error:
            raise self._translated(error) from error

    async def receive_message(self) -> NodeMessage:
        """The next message. Raises what the node says went wrong."""
        payload = await self._receive(RecordKind.MESSAGE)
        try:
            answer = read_answer(payload, self.stream.peer.node)
        except ProtocolError as error:
            raise self._translated(error) from error
        if isinstance(answer, FormFailure):
            raise error_of(answer, self.node_name)
        return answer

    async def receive_data(self, most: int) -> bytes:
        part = await self._receive(RecordKind.DATA)
        if not 0 < len(part) <= most:
            raise WorkerLost(f"node {self.node_name} sent {len(part)} bytes where {most} were left of its reply")
        return part

    async def finish(self) -> None:
        try:
            await self.stream.finish()
        except MeshError:
            return  # the whole reply is here: a link that breaks now spoils nothing

    def out_of_turn(self, answer: NodeMessage) -> WorkerLost:
        return WorkerLost(f"node {self.node_name} sent {type(answer).__name__} out of turn")

    async def _receive(self, kind: RecordKind) -> bytes:
        try:
            async with asyncio.timeout(SILENCE_S):
                record = await self.stream.receive()
        except (MeshError, TimeoutError) as error:
            raise self._translated(error) from error
        if record is None or record.kind is not kind:
            got = "the end" if record is None else record.kind.name
            raise WorkerLost(f"node {self.node_name} sent {got} where {kind.name} was due")
        return record.payload

    def _translated(self, error: MeshError | TimeoutError) -> WorkerLost:
        if isinstance(error, TimeoutError):
            return WorkerLost(f"node {self.node_name} said nothing for {SILENCE_S:g} s")
        return BrokeOff(f"node {self.node_name} broke off: {error}")
