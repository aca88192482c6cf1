"""What every transport promises (transport/interface.py), as tests that each carrier's module runs.

A carrier's test module subclasses `TransportContract` and brings a `pair` fixture: two transports that are
connected to each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pytest

from transport import link
from transport.errors import ResetCode, StreamReset, Unreachable
from transport.interface import (
    MAX_DATAGRAM_BYTES,
    MAX_RECORD_BYTES,
    DatagramReceived,
    LinkChanged,
    LinkState,
    NodeId,
    Record,
    RecordKind,
    Stream,
    StreamHeader,
    Transport,
)
from transport.quic import liveness

HEADER = StreamHeader("echo/1", "r-1", 5000)
WAIT_S = 60.0


class Opener(Protocol):
    async def __call__(self) -> tuple[Stream, Stream]: ...


@dataclass
class Pair:
    """Two connected transports. vanish: stop `other` as a SIGKILL would; silence_s: how long that may go unnoticed."""

    one: Transport
    other: Transport
    vanish: Callable[[], None]
    silence_s: float

    async def streams(self) -> tuple[Stream, Stream]:
        """The two ends of a new stream from `one` to `other`."""
        here = await self.one.open(self.other.node, HEADER)
        return here, await next_stream(self.other)


async def next_stream(transport: Transport) -> Stream:
    async with asyncio.timeout(WAIT_S):
        async for stream in transport.streams():
            return stream
    raise AssertionError("the transport closed before a stream came")


async def next_change(transport: Transport, state: LinkState, node: NodeId) -> LinkChanged:
    async with asyncio.timeout(WAIT_S):
        async for event in transport.events():
            if isinstance(event, LinkChanged) and event.state is state and event.node == node:
                return event
    raise AssertionError(f"the transport closed before a link was {state.value}")


async def next_datagram(transport: Transport) -> DatagramReceived:
    async with asyncio.timeout(WAIT_S):
        async for event in transport.events():
            if isinstance(event, DatagramReceived):
                return event
    raise AssertionError("the transport closed before a datagram came")


def message(payload: bytes) -> Record:
    return Record(RecordKind.MESSAGE, payload)


def data(payload: bytes) -> Record:
    return Record(RecordKind.DATA, payload)


async def drain(stream: Stream) -> list[Record]:
    """Everything until the peer finishes."""
    records: list[Record] = []
    async with asyncio.timeout(WAIT_S):
        while (record := await stream.receive()) is not None:
            records.append(record)
    return records


class TransportContract:
    """The promises."""

    # Streams

    async def test_header_and_proved_peer_come_with_the_stream(self, pair: Pair) -> None:
        here, there = await pair.streams()
        assert there.header == HEADER == here.header
        assert there.peer.node == pair.one.node
        assert here.peer.node == pair.other.node

    async def test_records_pass_both_ways_in_order_with_their_kind(self, pair: Pair) -> None:
        here, there = await pair.streams()
        for number in range(200):
            await here.send(message(b"up %d" % number))
            await there.send(data(b"down %d" % number))
        await here.finish()
        await there.finish()
        assert await drain(there) == [message(b"up %d" % number) for number in range(200)]
        assert await drain(here) == [data(b"down %d" % number) for number in range(200)]

    async def test_either_end_may_open(self, pair: Pair) -> None:
        here = await pair.other.open(pair.one.node, HEADER)
        there = await next_stream(pair.one)
        await there.send(message(b"hello"))
        assert await here.receive() == message(b"hello")

    async def test_largest_and_empty_records_pass(self, pair: Pair) -> None:
        here, there = await pair.streams()
        large = bytes(range(256)) * (MAX_RECORD_BYTES // 256)
        async with asyncio.timeout(WAIT_S):
            await here.send(data(b""))
            await here.send(data(large))
            assert await there.receive() == data(b"")
            assert await there.receive() == data(large)

    async def test_largest_records_follow_each_other_within_one_window(self, pair: Pair) -> None:
        here, there = await pair.streams()
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            received = group.create_task(drain(there))
            for number in range(5):
                await here.send(data(bytes([number]) * MAX_RECORD_BYTES))
            await here.finish()
        assert [record.payload[0] for record in received.result()] == [0, 1, 2, 3, 4]

    async def test_record_that_cannot_be_is_refused_here(self, pair: Pair) -> None:
        here, _ = await pair.streams()
        with pytest.raises(ValueError):
            await here.send(data(b"x" * (MAX_RECORD_BYTES + 1)))
        with pytest.raises(ValueError):
            await here.send(Record(RecordKind.CREDIT, b""))

    async def test_many_streams_at_once_keep_apart(self, pair: Pair) -> None:
        async def answer(stream: Stream) -> None:
            for record in await drain(stream):
                await stream.send(record)
            await stream.finish()

        async def ask(number: int) -> None:
            stream = await pair.one.open(pair.other.node, StreamHeader("echo/1", str(number)))
            await stream.send(message(b"%d" % number))
            await stream.finish()
            assert await drain(stream) == [message(b"%d" % number)]

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(ask(number))
            for _ in range(100):
                group.create_task(answer(await next_stream(pair.other)))

    async def test_finish_ends_one_direction_only(self, pair: Pair) -> None:
        here, there = await pair.streams()
        await here.send(message(b"question"))
        await here.finish()
        assert await drain(there) == [message(b"question")]
        # More than any initial window: credit still flows to a peer that we have finished sending to.
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            answer = group.create_task(drain(here))
            for _ in range(64):
                await there.send(data(b"a" * 65536))
            await there.finish()
        assert len(answer.result()) == 64
        assert await here.receive() is None

    async def test_sending_after_finish_is_our_own_mistake(self, pair: Pair) -> None:
        here, _ = await pair.streams()
        await here.finish()
        await here.finish()
        with pytest.raises(RuntimeError):
            await here.send(message(b"late"))

    async def test_reader_that_never_reads_stops_the_sender(self, pair: Pair) -> None:
        here, _there = await pair.streams()
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                async with asyncio.timeout(0.5 if sent >= 32 * 1024 else WAIT_S):
                    await here.send(data(b"x" * 8192))
                sent += 8192
        assert 32 * 1024 <= sent <= 80 * 1024

    async def test_sender_goes_on_when_the_reader_does(self, pair: Pair) -> None:
        here, there = await pair.streams()
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:

            async def send_all() -> None:
                for _ in range(1000):
                    await here.send(data(b"x" * 8192))
                await here.finish()

            group.create_task(send_all())
            await asyncio.sleep(0.1)
            assert sum(len(record.payload) for record in await drain(there)) == 1000 * 8192

    async def test_cancelled_sender_leaves_the_stream_whole(self, pair: Pair) -> None:
        here, there = await pair.streams()
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    await here.send(data(b"x" * 8192))
                    sent += 1
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            received = group.create_task(drain(there))
            await here.send(message(b"last"))
            await here.finish()
        assert len(received.result()) == sent + 1
        assert received.result()[-1] == message(b"last")

    async def test_cancelled_receiver_loses_nothing(self, pair: Pair) -> None:
        here, there = await pair.streams()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await there.receive()
        await here.send(message(b"after"))
        async with asyncio.timeout(WAIT_S):
            assert await there.receive() == message(b"after")

    # Endings

    async def test_reset_reaches_the_peer_with_its_code(self, pair: Pair) -> None:
        here, there = await pair.streams()
        here.reset(ResetCode.DEADLINE)
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(StreamReset) as seen:
                await there.receive()
        assert seen.value.code == ResetCode.DEADLINE
        with pytest.raises(StreamReset):
            await there.send(message(b"late"))

    async def test_reset_by_the_accepting_end_reaches_the_opener(self, pair: Pair) -> None:
        here, there = await pair.streams()
        there.reset(ResetCode.UNKNOWN_PROTOCOL)
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(StreamReset) as seen:
                await here.receive()
        assert seen.value.code == ResetCode.UNKNOWN_PROTOCOL

    async def test_reset_wakes_a_sender_that_waits_for_credit(self, pair: Pair) -> None:
        here, there = await pair.streams()

        async def send_for_ever() -> None:
            while True:
                await here.send(data(b"x" * 8192))

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            task = group.create_task(expect(StreamReset, send_for_ever()))
            await asyncio.sleep(0.1)
            assert not task.done()
            there.reset(ResetCode.CANCELLED)

    async def test_own_reset_is_safe_at_any_time_and_final(self, pair: Pair) -> None:
        here, there = await pair.streams()
        await there.send(message(b"unread"))
        await here.finish()
        here.reset(ResetCode.CANCELLED)
        here.reset(ResetCode.CANCELLED)
        with pytest.raises(StreamReset):
            await here.receive()
        with pytest.raises(StreamReset):
            await here.send(message(b"late"))

    async def test_reset_of_one_stream_leaves_the_others_alone(self, pair: Pair) -> None:
        doomed, _ = await pair.streams()
        here, there = await pair.streams()
        doomed.reset(ResetCode.CANCELLED)
        await here.send(message(b"still here"))
        async with asyncio.timeout(WAIT_S):
            assert await there.receive() == message(b"still here")

    async def test_streams_come_and_go_without_running_out(self, pair: Pair) -> None:
        async with asyncio.timeout(WAIT_S):
            for number in range(700):
                here, there = await pair.streams()
                if number % 3 == 0:
                    here.reset(ResetCode.CANCELLED)
                elif number % 3 == 1:
                    await here.finish()
                    await there.finish()
                else:
                    await there.finish()
                    there.reset(ResetCode.BUSY)

    # Links

    async def test_drop_fails_streams_and_loses_the_link_at_both_ends(self, pair: Pair) -> None:
        here, there = await pair.streams()
        pair.one.drop(pair.other.node, "no longer wanted")
        async with asyncio.timeout(WAIT_S):
            for stream in (here, there):
                with pytest.raises(Unreachable):
                    await stream.receive()
                with pytest.raises(Unreachable):
                    await stream.send(message(b"late"))
        await next_change(pair.one, LinkState.LOST, pair.other.node)
        await next_change(pair.other, LinkState.RECONNECTING, pair.one.node)
        assert pair.one.links() == ()
        with pytest.raises(Unreachable):
            await pair.one.open(pair.other.node, HEADER)
        assert not pair.one.send_datagram(pair.other.node, b"late")

    @pytest.fixture
    def is_given_up_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have who is idle asked, who is silent doubted, and who is doubted lost, each a second later."""
        monkeypatch.setattr(liveness, "PING_EVERY_S", 1.0)
        monkeypatch.setattr(liveness, "SILENCE_S", 1.0)
        monkeypatch.setattr(link, "RECONNECTING_S", 1.0)

    @pytest.mark.usefixtures("is_given_up_soon")
    async def test_peer_that_vanishes_fails_its_streams(self, pair: Pair) -> None:
        here, _ = await pair.streams()
        pair.vanish()
        async with asyncio.timeout(pair.silence_s):
            with pytest.raises(Unreachable):
                await here.receive()
        change = await next_change(pair.one, LinkState.RECONNECTING, pair.other.node)
        assert change.peer is not None and change.peer.node == pair.other.node

    async def test_finished_answer_stays_readable_after_the_link_is_gone(self, pair: Pair) -> None:
        here, there = await pair.streams()
        await there.send(message(b"answer"))
        await there.finish()
        await here.send(message(b"thanks"))  # acknowledged with, so after, the answer
        async with asyncio.timeout(WAIT_S):
            assert await there.receive() == message(b"thanks")
            assert await here.receive() == message(b"answer")
            pair.one.drop(pair.other.node, "done")
            assert await here.receive() is None

    async def test_links_show_who_is_connected(self, pair: Pair) -> None:
        (link,) = pair.one.links()
        assert link.node == pair.other.node
        assert link.state is LinkState.CONNECTED

    async def test_doubted_peer_that_lives_is_connected_again_and_keeps_its_streams(self, pair: Pair) -> None:
        here, there = await pair.streams()
        pair.one.doubt(pair.other.node, "for a test")
        assert [link.state for link in pair.one.links()] == [LinkState.RECONNECTING]
        with pytest.raises(Unreachable):
            await pair.one.open(pair.other.node, HEADER)
        await next_change(pair.one, LinkState.RECONNECTING, pair.other.node)
        await next_change(pair.one, LinkState.CONNECTED, pair.other.node)
        await here.send(message(b"still here"))
        async with asyncio.timeout(WAIT_S):
            assert await there.receive() == message(b"still here")

    @pytest.mark.usefixtures("is_given_up_soon")
    async def test_doubted_peer_that_is_dead_is_lost(self, pair: Pair) -> None:
        here, _ = await pair.streams()
        pair.vanish()
        pair.one.doubt(pair.other.node, "for a test")
        assert [link.state for link in pair.one.links()] == [LinkState.RECONNECTING]
        await next_change(pair.one, LinkState.LOST, pair.other.node)
        with pytest.raises(Unreachable):
            await here.receive()

    async def test_first_streams_of_both_ends_at_once(self, pair: Pair) -> None:
        async def ask(one: Transport, other: Transport, number: int) -> None:
            stream = await one.open(other.node, StreamHeader("echo/1", str(number)))
            await stream.send(message(b"%d" % number))
            await stream.finish()

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(ask(pair.one, pair.other, number))
                group.create_task(ask(pair.other, pair.one, number))
        for transport in (pair.one, pair.other):
            streams = [await next_stream(transport) for _ in range(10)]
            async with asyncio.timeout(WAIT_S):
                got = {(await stream.receive(), stream.header.request_id) for stream in streams}
            assert got == {(message(b"%d" % number), str(number)) for number in range(10)}

    async def test_connected_is_announced_before_anything_from_the_peer(self, pair: Pair) -> None:
        assert pair.other.send_datagram(pair.one.node, b"ping")
        await next_datagram_after(pair.one)

    # Datagrams

    async def test_datagram_arrives_with_its_sender(self, pair: Pair) -> None:
        payload = b"d" * MAX_DATAGRAM_BYTES
        assert pair.one.send_datagram(pair.other.node, payload)
        assert await next_datagram(pair.other) == DatagramReceived(pair.one.node, payload)

    async def test_datagrams_go_on_beside_streams(self, pair: Pair) -> None:
        here, there = await pair.streams()
        await here.send(data(b"x" * 32768))
        for number in range(20):
            assert pair.one.send_datagram(pair.other.node, b"%d" % number)
        got = [(await next_datagram(pair.other)).payload for _ in range(20)]
        assert got == [b"%d" % number for number in range(20)]
        assert await there.receive() == data(b"x" * 32768)

    async def test_datagram_that_cannot_be_is_refused_here(self, pair: Pair) -> None:
        with pytest.raises(ValueError):
            pair.one.send_datagram(pair.other.node, b"x" * (MAX_DATAGRAM_BYTES + 1))

    async def test_no_connection_no_datagram(self, pair: Pair) -> None:
        stranger = NodeId(b"\x55" * 32)
        assert not pair.one.send_datagram(stranger, b"hello")
        with pytest.raises(Unreachable):
            await pair.one.open(stranger, HEADER)

    async def test_datagrams_that_nobody_takes_are_dropped_oldest_first(self, pair: Pair) -> None:
        here, there = await pair.streams()
        for number in range(1500):
            pair.one.send_datagram(pair.other.node, b"%d" % number)
            if number % 50 == 0:
                # A round trip now and then, so that no queue below the one tested overflows.
                await here.send(message(b""))
                await there.receive()
        await here.send(message(b""))
        await there.receive()
        first = int((await next_datagram(pair.other)).payload)
        assert first > 0


async def next_datagram_after(transport: Transport) -> None:
    """The first event is the link's, and the datagram follows."""
    events = transport.events()
    async with asyncio.timeout(WAIT_S):
        first = await anext(events)
        assert isinstance(first, LinkChanged) and first.state is LinkState.CONNECTED
        second = await anext(events)
        assert isinstance(second, DatagramReceived)


async def expect(kind: type[BaseException], work: object) -> None:
    with pytest.raises(kind):
        await work  # type: ignore[misc]
