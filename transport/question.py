"""A stream that carries one message each way: how `join/1` and `renew/1` are asked and answered.

What the two messages say is decided in `forwarding` and `renewal`; a `Refused` travels as its words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from transport.errors import MeshError, ProtocolError, Refused, ResetCode, TimedOut
from transport.handshake import refusal_message
from transport.identity import short
from transport.interface import NodeId, Peer, Record, RecordKind, Stream, StreamHeader

Answer = Callable[[Peer, bytes], Awaitable[bytes]]
"""Answers a peer's question. Raises Refused, which the peer is told."""


class Opener(Protocol):
    """The part of a transport that asking takes."""

    async def open(self, node: NodeId, header: StreamHeader) -> Stream: ...


async def ask(opener: Opener, node: NodeId, header: StreamHeader, message: bytes, max_bytes: int) -> bytes:
    """Put `message` to `node`: its answer, of at most `max_bytes`, within the header's deadline.

    Raises Unreachable, TimedOut, StreamReset, ProtocolError.
    """
    try:
        async with asyncio.timeout(header.deadline_ms / 1000):
            stream = await opener.open(node, header)
            try:
                await stream.send(Record(RecordKind.MESSAGE, message))
                await stream.finish()
                return await _only_message(stream, max_bytes)
            except BaseException:
                stream.reset(ResetCode.CANCELLED)
                raise
    except TimeoutError as error:
        raise TimedOut(f"node {short(node)} did not answer on {header.protocol} in time") from error


async def serve_question(stream: Stream, answer: Answer, deadline_s: float, max_bytes: int) -> None:
    """Answer the one question of `stream`. Raises MeshError for what goes wrong with it."""
    try:
        async with asyncio.timeout(deadline_s):
            question = await _only_message(stream, max_bytes)
            try:
                reply = await answer(stream.peer, question)
            except Refused as refused:
                reply = refusal_message(refused)
            await stream.send(Record(RecordKind.MESSAGE, reply))
            await stream.finish()
    except TimeoutError:
        stream.reset(ResetCode.DEADLINE)
    except MeshError:
        raise  # whoever serves streams says with which code they end
    except BaseException:
        stream.reset(ResetCode.CANCELLED)
        raise


async def _only_message(stream: Stream, max_bytes: int) -> bytes:
    peer, protocol = short(stream.peer.node), stream.header.protocol
    record = await stream.receive()
    if record is None or record.kind is not RecordKind.MESSAGE:
        raise ProtocolError(f"expected one message on {protocol} from node {peer}, got something else")
    if len(record.payload) > max_bytes:
        raise ProtocolError(f"expected at most {max_bytes} bytes on {protocol} from node {peer}, got more")
    if await stream.receive() is not None:
        raise ProtocolError(f"expected one message on {protocol} from node {peer}, got another")
    return record.payload
