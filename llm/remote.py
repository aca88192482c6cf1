"""The asker's end of a chat/1 stream: asks one host and gives its answer as a `Reply`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from llm.chat import (
    CHAT_PROTOCOL,
    DATA_BYTES,
    SILENCE_TIMEOUT_S,
    Accepted,
    Ask,
    Failure,
    Head,
    HostMessage,
    Working,
    data_records,
    error_of,
    message,
    read_answer,
)
from llm.engines.interface import Headers, Request
from llm.errors import HostFailed, HostSilent
from llm.placement import Choice
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset
from transport.interface import Record, RecordKind, Stream, StreamHeader, Transport
from transport.wire import printable


async def ask(transport: Transport, choice: Choice, request: Request, accept_timeout_s: float) -> RemoteReply:
    """Ask the chosen host and return when the head of its answer is there.

    accept_timeout_s: how long it may take to say that it heard us.  Raises HostSilent, HostFailed, or what the
    host said went wrong.
    """
    header = StreamHeader(CHAT_PROTOCOL, request.request_id, max(1, round(request.deadline_s * 1000)))
    try:
        # The first stream of its kind waits for a connection of its own to be dialled.
        async with asyncio.timeout(accept_timeout_s):
            stream = await transport.open(choice.node, header)
    except TimeoutError as error:
        raise HostSilent(f"node {choice.node_name} said nothing for {accept_timeout_s:g} s", retryable=True) from error
    except MeshError as error:
        raise HostSilent(f"node {choice.node_name} cannot be reached: {error}", retryable=True) from error
    line = _Line(stream, choice.node_name)
    try:
        await _send_request(line, choice, request, accept_timeout_s)
        return RemoteReply(line, await _receive_head(line, request, accept_timeout_s))
    except BaseException:
        stream.reset(ResetCode.CANCELLED)
        raise


class RemoteReply:
    """A `Reply` that comes from another node."""

    def __init__(self, line: _Line, head: Head) -> None:
        self._line = line
        self._head = head

    @property
    def status(self) -> int:
        return self._head.status

    @property
    def headers(self) -> Headers:
        return self._head.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        line = self._line
        while (record := await line.receive(SILENCE_TIMEOUT_S)) is not None:
            if record.kind is RecordKind.DATA:
                yield record.payload
            else:
                _expect_working(line.read(record), line)
        await line.finish()

    async def close(self) -> None:
        self._line.stream.reset(ResetCode.CANCELLED)


class _Line:
    """The asker's end of the stream, with the transport's errors turned into ours."""

    def __init__(self, stream: Stream, node_name: str) -> None:
        self.stream = stream
        self.node_name = node_name

    async def send(self, record: Record) -> None:
        try:
            async with asyncio.timeout(SILENCE_TIMEOUT_S):
                await self.stream.send(record)
        except (MeshError, TimeoutError) as error:
            raise self._translated(error, SILENCE_TIMEOUT_S) from error

    async def receive(self, timeout_s: float) -> Record | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.stream.receive()
        except (MeshError, TimeoutError) as error:
            raise self._translated(error, timeout_s) from error

    async def finish(self) -> None:
        try:
            await self.stream.finish()
        except MeshError:
            return  # the whole answer is here: a link that breaks now spoils nothing

    def read(self, record: Record | None) -> HostMessage:
        """The message in `record`. Raises HostFailed when it is none, and what the host says went wrong."""
        try:
            if record is None or record.kind is not RecordKind.MESSAGE:
                raise ProtocolError(f"expected a message, got {'the end' if record is None else record.kind.name}")
            answer = read_answer(record.payload, self.stream.peer.node)
        except ProtocolError as error:
            raise self._translated(error, 0.0) from error
        if isinstance(answer, Failure):
            raise error_of(answer, self.node_name)
        return answer

    def broke_protocol(self, answer: HostMessage) -> HostFailed:
        return HostFailed(f"node {self.node_name} sent {type(answer).__name__} out of turn", retryable=True)

    def _translated(self, error: MeshError | TimeoutError, timeout_s: float) -> HostFailed:
        match error:
            case TimeoutError():
                return HostSilent(f"node {self.node_name} said nothing for {timeout_s:g} s", retryable=True)
            case StreamReset() | ProtocolError():
                return HostFailed(f"node {self.node_name} broke off: {error}", retryable=True)
            case _:
                return HostSilent(f"the link with node {self.node_name} broke: {error}", retryable=True)


async def _send_request(line: _Line, choice: Choice, request: Request, accept_timeout_s: float) -> None:
    question = Ask(
        model=choice.model,
        identity=choice.identity,
        method=request.method,
        path=request.path,
        headers=request.headers,
        body_bytes=len(request.body),
        caller=request.caller,
    )
    await line.send(message(question))
    if len(request.body) > DATA_BYTES:
        # Its refusal would find us waiting for credit that never comes; a round trip is little beside such a body.
        _expect_accepted(line.read(await line.receive(accept_timeout_s)), line)
    for record in data_records(request.body):
        await line.send(record)


async def _receive_head(line: _Line, request: Request, accept_timeout_s: float) -> Head:
    timeout_s = accept_timeout_s
    while True:
        answer = line.read(await line.receive(timeout_s))
        if isinstance(answer, Head):
            return answer
        if isinstance(answer, Working) and answer.note:
            request.on_progress(printable(answer.note, 512))
        timeout_s = SILENCE_TIMEOUT_S


def _expect_accepted(answer: HostMessage, line: _Line) -> None:
    if not isinstance(answer, Accepted):
        raise line.broke_protocol(answer)


def _expect_working(answer: HostMessage, line: _Line) -> None:
    if not isinstance(answer, Working):
        raise line.broke_protocol(answer)
