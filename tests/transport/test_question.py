"""One question, one answer, a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.transport.contract import next_stream
from tests.transport.test_memory import A, B, connect
from transport.errors import ProtocolError, RefusalCode, Refused, StreamReset, TimedOut, Unreachable
from transport.handshake import read_message
from transport.interface import NodeId, Peer, Record, RecordKind, StreamHeader
from transport.memory import MemoryNetwork, MemoryTransport
from transport.question import ask, serve_question
from transport.renewal import Renewed
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

HEADER = StreamHeader("renew/1", "", 5000)
Ends = tuple[MemoryTransport, MemoryTransport]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    network = MemoryNetwork(seed=1, delay_s=0.01)
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        yield one, other


async def shout(peer: Peer, question: bytes) -> bytes:
    assert peer.node == A
    return question.upper()


async def refuse(peer: Peer, question: bytes) -> bytes:
    raise Refused(RefusalCode.BUSY, "come back later")


async def serve_one(other: MemoryTransport, answer: Callable[[Peer, bytes], Awaitable[bytes]] = shout) -> None:
    await serve_question(await next_stream(other), answer, 5.0, 100)


async def asked(ends: Ends, question: bytes = b"hello", max_bytes: int = 100) -> bytes:
    return await ask(ends[0], B, HEADER, question, max_bytes)


async def test_a_question_is_answered(ends: Ends) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_one(ends[1]))
        assert await asked(ends) == b"HELLO"


async def test_a_refusal_travels_as_its_words(ends: Ends) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_one(ends[1], refuse))
        answer = await asked(ends)
    with pytest.raises(Refused, match="come back later") as refused:
        read_message(answer, Renewed, B)
    assert refused.value.code is RefusalCode.BUSY


async def test_nobody_connected_is_unreachable_at_once(ends: Ends) -> None:
    with pytest.raises(Unreachable):
        await ask(ends[0], NodeId(b"\x03" * 32), HEADER, b"hello", 100)


async def test_who_does_not_answer_is_given_up_in_time_and_hears_of_it(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimedOut, match="renew/1"):
        await asked(ends)
    assert loop.time() - started == pytest.approx(5.0, abs=0.2)
    stream = await next_stream(ends[1])
    await asyncio.sleep(1)
    with pytest.raises(StreamReset):
        await stream.send(Record(RecordKind.MESSAGE, b"too late"))


async def test_an_answer_that_takes_too_long_is_reset(ends: Ends) -> None:
    async def sleep(peer: Peer, question: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    async with asyncio.TaskGroup() as group:
        group.create_task(serve_one(ends[1], sleep))
        with pytest.raises((StreamReset, TimedOut)):
            await asked(ends)


@pytest.mark.parametrize("max_bytes", [3])
async def test_a_long_answer_is_the_peers_fault(ends: Ends, max_bytes: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_one(ends[1]))
        with pytest.raises(ProtocolError, match="at most 3 bytes"):
            await asked(ends, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([], "something else"),
        ([Record(RecordKind.DATA, b"raw")], "something else"),
        ([Record(RecordKind.MESSAGE, b"x" * 101)], "at most 100 bytes"),
        ([Record(RecordKind.MESSAGE, b"one"), Record(RecordKind.MESSAGE, b"two")], "got another"),
    ],
)
async def test_what_is_no_question_is_the_peers_fault(ends: Ends, records: list[Record], complaint: str) -> None:
    stream = await ends[0].open(B, HEADER)
    for record in records:
        await stream.send(record)
    await stream.finish()
    with pytest.raises(ProtocolError, match=complaint):
        await serve_one(ends[1])


async def test_cancelling_a_question_leaves_nothing_open(ends: Ends) -> None:
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(asked(ends))
        stream = await next_stream(ends[1])
        asking.cancel()
    await asyncio.sleep(1)
    with pytest.raises(StreamReset):
        await stream.send(Record(RecordKind.MESSAGE, b"too late"))
