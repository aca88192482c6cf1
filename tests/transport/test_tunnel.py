"""Tunnels over the memory transport in virtual time: cuts, ends, back-pressure, limits, strangers."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from tests.transport.tunnels import A, B, C, Pair, echoed, memory_pair, write_all
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, TimedOut, Unreachable
from transport.interface import LinkState, Record, RecordKind, Stream, StreamHeader
from transport.link_board import LinkBoard
from transport.memory import MemoryTransport
from transport.memory_pipe import MemoryPipe, memory_pipes
from transport.resumption import DEFAULT_WINDOW_BYTES
from transport.tunnel_end import PipeBroken, ServiceEnded, TunnelOptions
from transport.tunnel_message import (
    Denial,
    Denied,
    Ended,
    Open,
    Position,
    Resume,
    ServiceRefused,
    Taken,
    read_answer,
    to_record,
)
from transport.tunnel_server import TunnelRequest, TunnelServer
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

MIB = 1 << 20
SILENCE_S = 4.0
"""After which quic takes a connection for lost."""

WAIT_S = 60.0


class App:
    """A program that has connected to a listener: its end of the connection, and how its tunnel ended."""

    def __init__(self, pair: Pair, service: str = "echo") -> None:
        self.pipe, self._tunnelled = memory_pipes()
        self.tunnel = pair.group.create_task(self._carry(pair, service))

    async def _carry(self, pair: Pair, service: str) -> MeshError | None:
        try:
            await pair.client.carry(self._tunnelled, pair.to(service))
        except MeshError as error:
            return error
        return None

    async def ending(self) -> MeshError | None:
        async with asyncio.timeout(WAIT_S):
            return await self.tunnel

    async def read(self, count: int) -> bytes:
        got = b""
        async with asyncio.timeout(WAIT_S):
            while len(got) < count and (data := await self.pipe.read(count - len(got))):
                got += data
        return got

    async def is_reset(self) -> bool:
        try:
            async with asyncio.timeout(WAIT_S):
                await self.pipe.read(1)
        except ConnectionResetError:
            return True
        return False


class Sink:
    """A service whose program does what the test does with its pipe."""

    def __init__(self, pair: Pair, capacity_bytes: int = 1024) -> None:
        self._capacity_bytes = capacity_bytes
        self.pipe: MemoryPipe
        self.connected = asyncio.Event()
        pair.offer("sink", self)

    async def __call__(self, request: TunnelRequest) -> MemoryPipe:
        tunnelled, self.pipe = memory_pipes(self._capacity_bytes)
        self.connected.set()
        return tunnelled


async def far_ending(pair: Pair) -> MeshError:
    async with asyncio.timeout(WAIT_S):
        while not pair.far.endings:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)
    return pair.far.endings[0]


# Cuts


@pytest.mark.parametrize(
    ("cut_s", "lost_after_s"), [(1.0, 0.0), (1.0, SILENCE_S), (5.0, 0.0), (5.0, SILENCE_S), (9.0, SILENCE_S)]
)
async def test_hundred_megabytes_echoed_through_a_cut_arrive_whole_over_the_same_connections(
    cut_s: float, lost_after_s: float
) -> None:
    async with memory_pair() as pair:
        app = App(pair)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, pair.cut)
        if lost_after_s < cut_s:
            loop.call_later(0.5 + lost_after_s, pair.lose_connection)
        loop.call_later(0.5 + cut_s, pair.mend)
        start = loop.time()
        assert await echoed(app.pipe, 100 * MIB)
        assert loop.time() - start > cut_s
        assert await app.ending() is None
        assert len(pair.echo.requests) == 1 and not pair.far.endings and not pair.server.tunnels


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_cut_of_eleven_seconds_ends_in_a_typed_error_at_both_ends(is_noticed: bool) -> None:
    async with memory_pair() as pair:
        app = App(pair)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, pair.cut)
        if is_noticed:
            loop.call_later(0.5 + SILENCE_S, pair.lose_connection)
        loop.call_later(11.5, pair.mend)
        with pytest.raises(ExceptionGroup) as failed:
            await echoed(app.pipe, 100 * MIB)
        assert failed.group_contains(ConnectionResetError)
        assert isinstance(await app.ending(), Unreachable)
        assert isinstance(await far_ending(pair), Unreachable | StreamReset)
        assert not pair.server.tunnels and len(pair.echo.requests) == 1


async def test_several_losses_in_a_row_lose_nothing() -> None:
    async with memory_pair() as pair:
        app = App(pair)

        async def trouble() -> None:
            for _ in range(8):
                await asyncio.sleep(0.2)
                pair.lose_connection()
                await pair.near.until(B, LinkState.CONNECTED)

        pair.group.create_task(trouble())
        assert await echoed(app.pipe, 100 * MIB)
        assert await app.ending() is None
        assert len(pair.echo.requests) == 1


async def test_idle_tunnel_survives_a_cut_and_goes_on() -> None:
    async with memory_pair() as pair:
        app = App(pair)
        await write_all(app.pipe, b"before")
        assert await app.read(6) == b"before"
        await asyncio.sleep(3600)
        pair.cut()
        pair.lose_connection()
        await asyncio.sleep(4)
        pair.mend()
        await asyncio.sleep(30)
        await write_all(app.pipe, b"after")
        assert await app.read(5) == b"after"
        assert len(pair.echo.requests) == 1


async def test_stream_that_only_the_opener_lost_is_replaced_at_the_far_end() -> None:
    async with memory_pair() as pair:
        app = App(pair)
        await write_all(app.pipe, b"one")
        assert await app.read(3) == b"one"
        assert isinstance(pair.near.transport, MemoryTransport)
        pair.near.transport.lose(B, "only here")
        await write_all(app.pipe, b"two")
        assert await app.read(3) == b"two"
        await app.pipe.finish()
        assert await app.read(1) == b"" and await app.ending() is None
        assert len(pair.echo.requests) == 1 and not pair.far.endings


async def test_link_lost_for_good_ends_both_ends_with_a_reset() -> None:
    async with memory_pair() as pair:
        app = App(pair)
        await write_all(app.pipe, b"x")
        assert await app.read(1) == b"x"
        pair.cut()
        pair.lose_connection()
        assert await app.is_reset()
        assert isinstance(await app.ending(), Unreachable)
        assert isinstance(await far_ending(pair), Unreachable)
        assert pair.near.links.state(B) is LinkState.LOST


async def test_tunnel_to_a_node_without_a_link_fails_at_once() -> None:
    async with memory_pair() as pair:
        pair.near.transport.drop(B, "test")
        await pair.near.until(B, LinkState.LOST)
        start = asyncio.get_running_loop().time()
        app = App(pair)
        assert isinstance(await app.ending(), Unreachable) and await app.is_reset()
        assert asyncio.get_running_loop().time() == start


async def test_far_end_that_has_not_heard_of_the_link_yet_trusts_the_stream() -> None:
    async with memory_pair() as pair:
        pair.server = TunnelServer(LinkBoard())
        await pair.restart_server()
        app = App(pair)
        await asyncio.sleep(10)
        await write_all(app.pipe, b"x")
        assert await app.read(1) == b"x"


async def test_opened_while_the_link_is_down_waits_for_it() -> None:
    async with memory_pair() as pair:
        pair.lose_connection()
        await pair.near.until(B, LinkState.RECONNECTING)
        app = App(pair)
        await write_all(app.pipe, b"x")
        assert await app.read(1) == b"x"


async def test_restarted_peer_does_not_know_the_tunnel() -> None:
    async with memory_pair() as pair:
        app = App(pair)
        await write_all(app.pipe, b"x")
        assert await app.read(1) == b"x"
        await pair.restart_server()
        pair.lose_connection()
        assert await refused_with(app) is Denial.NO_TUNNEL


# Ends


async def test_half_close_passes_through_and_the_answer_still_comes() -> None:
    async with memory_pair() as pair:
        sink = Sink(pair)
        app = App(pair, "sink")
        await write_all(app.pipe, b"question")
        await app.pipe.finish()
        await sink.connected.wait()
        assert await sink.pipe.read(100) == b"question"
        assert await sink.pipe.read(100) == b""
        await write_all(sink.pipe, b"answer")
        assert await app.read(6) == b"answer"
        await sink.pipe.finish()
        assert await app.read(1) == b"" and await app.ending() is None
        assert not pair.server.tunnels


async def test_end_that_is_lost_with_its_link_is_said_again() -> None:
    async with memory_pair(delay_s=0.05) as pair:
        sink = Sink(pair)
        app = App(pair, "sink")
        await write_all(app.pipe, b"x")
        await sink.connected.wait()
        await sink.pipe.finish()
        await app.pipe.finish()
        pair.lose_connection()
        assert await sink.pipe.read(10) == b"x"
        assert await sink.pipe.read(10) == b""
        assert await app.read(1) == b""
        assert await app.ending() is None
        async with asyncio.timeout(WAIT_S):
            while pair.server.tunnels:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.1)
        assert not pair.far.endings


@pytest.mark.parametrize("lost_at_s", [step * 0.01 for step in range(30)])
async def test_link_lost_at_any_moment_of_a_short_exchange_fails_nobody(lost_at_s: float) -> None:
    async with memory_pair(delay_s=0.03) as pair:
        app = App(pair)
        asyncio.get_running_loop().call_later(lost_at_s, pair.lose_connection)
        await write_all(app.pipe, b"request")
        await app.pipe.finish()
        assert await app.read(100) == b"request"
        assert await app.ending() is None
        await asyncio.sleep(30)
        assert not pair.far.endings and not pair.server.tunnels
        assert len(pair.echo.requests) == 1


async def test_reset_here_is_a_reset_there() -> None:
    async with memory_pair() as pair:
        sink = Sink(pair)
        app = App(pair, "sink")
        await sink.connected.wait()
        app.pipe.abort()
        assert isinstance(await app.ending(), PipeBroken)
        with pytest.raises(ConnectionResetError):
            await sink.pipe.read(1)
        ending = await far_ending(pair)
        assert isinstance(ending, StreamReset) and ending.code == ResetCode.CANCELLED


async def test_reset_there_is_a_reset_here() -> None:
    async with memory_pair() as pair:
        sink = Sink(pair)
        app = App(pair, "sink")
        await sink.connected.wait()
        sink.pipe.abort()
        assert await app.is_reset()
        ending = await app.ending()
        assert isinstance(ending, StreamReset) and ending.code == ResetCode.CANCELLED
        assert isinstance(await far_ending(pair), PipeBroken)


async def test_cancelling_a_tunnel_leaves_nothing_behind() -> None:
    async with memory_pair() as pair:
        sink = Sink(pair)
        app = App(pair, "sink")
        await write_all(app.pipe, b"x" * 5000)
        await sink.connected.wait()
        app.tunnel.cancel()
        assert await app.is_reset()
        assert isinstance(await far_ending(pair), StreamReset)
        assert not pair.server.tunnels


# Back-pressure


async def test_slow_reader_holds_the_sender_within_the_windows() -> None:
    async with memory_pair() as pair:
        sink = Sink(pair)
        app = App(pair, "sink")
        taken = 0

        async def fill() -> None:
            nonlocal taken
            while True:
                taken += await app.pipe.write(bytes(64 << 10))

        filling = pair.group.create_task(fill())
        await sink.connected.wait()
        await asyncio.sleep(5)
        # The sink's own buffer, a window, and the buffer of the application's connection.
        assert DEFAULT_WINDOW_BYTES < taken <= DEFAULT_WINDOW_BYTES + (64 << 10) + 2048
        read = 0
        while read < DEFAULT_WINDOW_BYTES:
            read += len(await sink.pipe.read(1 << 16))
        await asyncio.sleep(5)
        assert taken - read <= DEFAULT_WINDOW_BYTES + (64 << 10) + 2048
        filling.cancel()
        app.pipe.abort()


async def test_reader_that_takes_nothing_for_a_minute_times_out_at_both_ends() -> None:
    async with memory_pair() as pair:
        Sink(pair)
        app = App(pair, "sink")
        loop = asyncio.get_running_loop()
        await write_all(app.pipe, b"x" * 5000)
        start = loop.time()
        async with asyncio.timeout(70):
            ending = await app.tunnel
        assert 59 < loop.time() - start < 63
        assert isinstance(ending, TimedOut | StreamReset)
        if isinstance(ending, StreamReset):
            assert ending.code == ResetCode.DEADLINE
        assert await app.is_reset()
        assert isinstance(await far_ending(pair), TimedOut | StreamReset)


async def test_silent_application_is_not_a_stall() -> None:
    async with memory_pair() as pair:
        app = App(pair)
        for _ in range(3):
            await asyncio.sleep(3600)
            await write_all(app.pipe, b"x")
            assert await app.read(1) == b"x"


# Refusals


async def refused_with(app: App) -> Denial:
    ending = await app.ending()
    assert isinstance(ending, ServiceRefused) and await app.is_reset()
    return ending.code


async def test_unknown_service_is_refused() -> None:
    async with memory_pair() as pair:
        assert await refused_with(App(pair, "nothing")) is Denial.NO_SERVICE
        assert not pair.server.tunnels


async def test_connector_sees_who_asks_under_which_lease_and_may_refuse() -> None:
    requests: list[TunnelRequest] = []

    async def guarded(request: TunnelRequest) -> MemoryPipe:
        requests.append(request)
        raise ServiceRefused(Denial.NO_LEASE, "term 7 is over, 8 holds")

    async with memory_pair() as pair:
        pair.offer("guarded", guarded)
        app = App(pair, "guarded")
        assert await refused_with(app) is Denial.NO_LEASE
        assert "term 7 is over, 8 holds" in str(await app.ending())
        assert [(one.peer.node, one.service, one.lease, one.term) for one in requests] == [(A, "guarded", "lease-7", 7)]
        await asyncio.sleep(1)
        assert not pair.server.tunnels and not pair.far.endings


async def test_service_that_is_down_or_too_slow_is_an_error_at_both_ends() -> None:
    async def down(request: TunnelRequest) -> MemoryPipe:
        raise Unreachable("connection refused")

    async def slow(request: TunnelRequest) -> MemoryPipe:
        await asyncio.sleep(3600)
        raise AssertionError

    async with memory_pair() as pair:
        pair.offer("down", down)
        pair.offer("slow", slow)
        assert await refused_with(App(pair, "down")) is Denial.UNAVAILABLE
        assert await refused_with(App(pair, "slow")) is Denial.UNAVAILABLE
        await asyncio.sleep(1)
        assert not pair.server.tunnels and not pair.far.endings


async def test_one_tunnel_too_many_is_busy_and_the_others_live() -> None:
    async with memory_pair(options=TunnelOptions(max_per_peer=2)) as pair:
        apps = [App(pair) for _ in range(2)]
        for app in apps:
            await write_all(app.pipe, b"x")
            assert await app.read(1) == b"x"
        assert await refused_with(App(pair)) is Denial.BUSY
        pair.lose_connection()  # waiting ones count as well
        await pair.near.until(B, LinkState.CONNECTED)
        assert await refused_with(App(pair)) is Denial.BUSY
        await apps[0].pipe.finish()
        assert await apps[0].ending() is None
        app = App(pair)
        await write_all(app.pipe, b"x")
        assert await app.read(1) == b"x"


async def test_more_than_this_node_may_carry_are_refused_here() -> None:
    async with memory_pair(options=TunnelOptions(max_carried=1)) as pair:
        first = App(pair)
        await write_all(first.pipe, b"x")
        assert await first.read(1) == b"x"
        assert await refused_with(App(pair)) is Denial.BUSY
        await first.pipe.finish()
        assert await first.ending() is None
        assert pair.client.tunnels == 0 and len(pair.echo.requests) == 1


async def test_service_that_is_withdrawn_takes_its_tunnels_with_it_and_no_others() -> None:
    async with memory_pair() as pair:
        other = App(pair)
        with pair.server.offer("brief", pair.echo):
            with pytest.raises(ValueError, match="offered already"), pair.server.offer("brief", pair.echo):
                pass
            app = App(pair, "brief")
            await write_all(app.pipe, b"x")
            assert await app.read(1) == b"x"
        ending = await app.ending()
        assert isinstance(ending, StreamReset) and ending.code == ResetCode.SHUTDOWN and await app.is_reset()
        assert isinstance(await far_ending(pair), ServiceEnded)
        assert await refused_with(App(pair, "brief")) is Denial.NO_SERVICE
        await write_all(other.pipe, b"still here")
        assert await other.read(10) == b"still here"


async def test_service_that_is_withdrawn_while_it_connects_refuses() -> None:
    near, far = memory_pipes()

    async def slow(request: TunnelRequest) -> MemoryPipe:
        await asyncio.sleep(1)
        return near

    async with memory_pair() as pair:
        with pair.server.offer("slow", slow):
            app = App(pair, "slow")
            await asyncio.sleep(0.5)
        assert await refused_with(app) is Denial.NO_SERVICE
        with pytest.raises(ConnectionResetError):
            await far.read(1)


async def test_who_is_refused_while_its_link_breaks_is_told_on_the_next_stream() -> None:
    async def thinking(request: TunnelRequest) -> MemoryPipe:
        await asyncio.sleep(5)
        raise ServiceRefused(Denial.NO_LEASE, "no")

    async with memory_pair() as pair:
        pair.offer("thinking", thinking)
        app = App(pair, "thinking")
        await asyncio.sleep(1)
        pair.lose_connection()
        assert await refused_with(app) is Denial.NO_LEASE


# Peers that do not keep to it


async def opened(pair: Pair, *records: Record) -> Stream:
    stream = await pair.near.transport.open(B, StreamHeader("tunnel/1", "t"))
    for record in records:
        await stream.send(record)
    return stream


async def test_another_member_cannot_resume_a_tunnel_even_with_its_id() -> None:
    tunnel = os.urandom(16)
    async with memory_pair() as pair, pair.network.transport(C) as third:
        third.keep(B, pair.far.transport.addresses)
        await pair.far.until(C, LinkState.CONNECTED)
        mine = await opened(pair, to_record(Open(tunnel, "echo", "", MIB)))
        read_answer(await mine.receive(), B)
        for message in (
            Resume(tunnel, Position(0, 0)),
            Open(tunnel, "echo", "", MIB),
            Resume(bytes(16), Position(0, 0)),
        ):
            theirs = await third.open(B, StreamHeader("tunnel/1", "t"))
            await theirs.send(to_record(message))
            refused = read_answer(await theirs.receive(), B)
            assert isinstance(refused, Denied) and refused.code is Denial.NO_TUNNEL
            theirs.reset(ResetCode.CANCELLED)
        await mine.send(Record(RecordKind.DATA, b"still mine"))
        assert await mine.receive() == Record(RecordKind.DATA, b"still mine")
        mine.reset(ResetCode.CANCELLED)


@pytest.mark.parametrize(
    "record",
    [
        Record(RecordKind.DATA, b"bytes first"),
        Record(RecordKind.MESSAGE, b"\xc1"),
        to_record(Ended()),
        Record(RecordKind.MESSAGE, msgspec.msgpack.encode({"type": "open", "tunnel": b"short"})),
        to_record(Open(bytes(16), "echo", "", 1)),
        to_record(Open(bytes(16), "echo", "", 1 << 40)),
        to_record(Open(bytes(16), "e" * 65, "", MIB)),
    ],
)
async def test_malformed_request_is_the_peers_fault(record: Record) -> None:
    async with memory_pair() as pair:
        stream = await opened(pair, record)
        assert isinstance(await far_ending(pair), ProtocolError)
        assert not pair.server.tunnels and not pair.echo.requests
        stream.reset(ResetCode.CANCELLED)


async def test_stream_without_a_request_is_given_up() -> None:
    async with memory_pair() as pair:
        stream = await opened(pair)
        assert isinstance(await far_ending(pair), TimedOut)
        stream.reset(ResetCode.CANCELLED)


@pytest.mark.parametrize(
    "record",
    [
        to_record(Taken(1)),
        to_record(Open(bytes(16), "echo", "", MIB)),
        Record(RecordKind.DATA, b""),
        Record(RecordKind.MESSAGE, b"x" * 1000),
    ],
)
async def test_malformed_frame_ends_the_tunnel_and_resets_the_service(record: Record) -> None:
    async with memory_pair() as pair:
        sink = Sink(pair)
        stream = await opened(pair, to_record(Open(os.urandom(16), "sink", "", MIB)))
        read_answer(await stream.receive(), B)
        await stream.send(record)
        assert isinstance(await far_ending(pair), ProtocolError)
        with pytest.raises(ConnectionResetError):
            await sink.pipe.read(1)
        with pytest.raises(StreamReset) as ended:
            await stream.receive()
        assert ended.value.code == ResetCode.PROTOCOL_ERROR


async def test_stream_finished_before_the_bytes_are_is_the_peers_fault() -> None:
    async with memory_pair() as pair:
        stream = await opened(pair, to_record(Open(os.urandom(16), "echo", "", MIB)))
        await stream.finish()
        assert isinstance(await far_ending(pair), ProtocolError)


async def test_opener_that_asks_again_after_a_lost_answer_gets_the_same_tunnel() -> None:
    request = to_record(Open(os.urandom(16), "echo", "", MIB))
    async with memory_pair() as pair:
        first = await opened(pair, request)
        await first.receive()
        second = await opened(pair, request)
        read_answer(await second.receive(), B)
        await second.send(Record(RecordKind.DATA, b"x"))
        assert await second.receive() == Record(RecordKind.DATA, b"x")
        assert len(pair.echo.requests) == 1 and pair.server.tunnels == 1
        second.reset(ResetCode.CANCELLED)
