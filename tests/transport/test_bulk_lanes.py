"""When streams go over a bulk lane and when they do not, and how lanes end: two real endpoints on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from tests.transport.contract import HEADER, WAIT_S, data, drain, message, next_stream
from tests.transport.quic_mesh import connect, is_connected, live_mesh, start
from transport.bulk import lanes
from transport.bulk.frame import encode_reset, record_prefix
from transport.bulk.lane import Lane
from transport.bulk.message import PROTOCOL, DialMe, Want, to_record
from transport.errors import MeshError, ResetCode, StreamReset, Unreachable
from transport.interface import Address, RecordKind, Role, Stream, StreamHeader
from transport.quic import QuicOptions, QuicTransport
from transport.quic.connection import QuicPeerConnection
from transport.record import encode_record
from transport.switchboard import MAX_STREAMS_PER_PEER

pytestmark = pytest.mark.live

loop_factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Two = tuple[QuicTransport, QuicTransport]
OFF = QuicOptions(bulk=False)


@asynccontextmanager
async def two(
    options: QuicOptions | None = None, others: QuicOptions | None = None, role: Role = Role.MEMBER
) -> AsyncIterator[Two]:
    mesh = live_mesh()
    async with start(mesh.owner_now(), options=options) as one, start(mesh.member_now(role), options=others) as other:
        await connect(one, other)
        yield one, other


def control_of(one: QuicTransport, other: QuicTransport) -> QuicPeerConnection:
    control = one._switchboard.connection(other.node)
    assert isinstance(control, QuicPeerConnection)
    return control


def lane_of(one: QuicTransport, other: QuicTransport) -> Lane:
    lane = one._lane(control_of(one, other))
    assert lane is not None
    return lane


def carrier(one: QuicTransport) -> str:
    return one.links()[0].carrier


async def bulk_streams(one: QuicTransport, other: QuicTransport) -> tuple[Stream, Stream]:
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        opening = group.create_task(one.open(other.node, HEADER, bulk=True))
        there = await next_stream(other)
        if there.header.protocol == PROTOCOL:  # lanes are off there: what an agent answers
            there.reset(ResetCode.UNKNOWN_PROTOCOL)
            there = await next_stream(other)
        return await opening, there


async def passes(here: Stream, there: Stream) -> None:
    """Something goes through both ways."""
    async with asyncio.timeout(WAIT_S):
        await here.send(message(b"there"))
        assert await there.receive() == message(b"there")
        await there.send(message(b"and back"))
        assert await here.receive() == message(b"and back")


async def fails(stream: Stream) -> MeshError:
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(MeshError) as seen:
            while True:
                await stream.receive()
    return seen.value


# Getting a lane


@pytest.mark.parametrize("dialled", [True, False], ids=["by the end that dialled", "by the end that was dialled"])
async def test_first_bulk_stream_opens_the_lane(dialled: bool) -> None:
    async with two() as (one, other):
        if control_of(one, other).is_dialled_here is not dialled:
            one, other = other, one
        plain = await one.open(other.node, HEADER)
        await passes(plain, await next_stream(other))
        assert carrier(one) == carrier(other) == "quic"
        await passes(*await bulk_streams(one, other))
        assert carrier(one) == carrier(other) == "quic+bulk"


async def test_streams_at_once_share_one_lane(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "meshd.transport")
    async with two() as (one, other):
        async with asyncio.timeout(WAIT_S):
            opens = (a.open(b.node, HEADER, bulk=True) for a, b in [(one, other), (other, one)] * 10)
            await asyncio.gather(*opens)
            for end in [one, other] * 10:
                await next_stream(end)
        assert len(lane_of(one, other)) == len(lane_of(other, one)) == 20
        assert sum("open" in record.message for record in caplog.records if "bulk lane" in record.message) == 2


async def test_much_arrives_whole_both_ways_at_once() -> None:
    payload = random.Random(1).randbytes(24 << 20)
    digest = hashlib.sha256(payload).digest()

    async def send_all(stream: Stream) -> None:
        for offset in range(0, len(payload), 300_007):
            await stream.send(data(payload[offset : offset + 300_007]))
        await stream.finish()

    async def digest_of(stream: Stream) -> bytes:
        return hashlib.sha256(b"".join(record.payload for record in await drain(stream))).digest()

    async with two() as (one, other):
        here, there = await bulk_streams(one, other)
        async with asyncio.TaskGroup() as group:
            digests = [group.create_task(digest_of(end)) for end in (here, there)]
            for end in (here, there):
                group.create_task(send_all(end))
        assert [task.result() for task in digests] == [digest, digest]
        (link,) = one.links()
        assert link.bytes_sent > len(payload) and link.bytes_received > len(payload)


async def test_lane_comes_from_the_address_that_quic_has() -> None:
    mesh = live_mesh()
    there, here = Address("127.0.0.1", 0), Address("127.0.0.3", 0)
    async with start(mesh.owner_now(), there) as one, start(mesh.member_now(), here) as other:
        await connect(one, other)
        await passes(*await bulk_streams(other, one))
        assert carrier(other) == "quic+bulk"


# Doing without


@pytest.mark.parametrize("is_off_here", [True, False])
async def test_lane_turned_off_at_either_end_leaves_everything_to_quic(
    is_off_here: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshd.transport")
    async with two(OFF if is_off_here else None, None if is_off_here else OFF) as (one, other):
        for opener, accepter in [(one, other), (other, one)] * 2:
            await passes(*await bulk_streams(opener, accepter))
        assert carrier(one) == carrier(other) == "quic"
    assert sum("while this connection lasts" in record.message for record in caplog.records) == 1


async def test_refused_tcp_falls_back_to_quic_and_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "meshd.transport")
    async with two() as (one, other):
        for end in (one, other):
            assert end._bulk is not None
            end._bulk._door.port = closed_port()
        for _ in range(3):
            await passes(*await bulk_streams(one, other))
        assert carrier(one) == "quic"
    assert sum("QUIC carries everything for 10 s" in record.message for record in caplog.records) <= 2


async def test_lane_is_tried_again_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "FIRST_PAUSE_S", 0.05)
    async with two() as (one, other):
        with monkeypatch.context() as patch:
            for end in (one, other):
                assert end._bulk is not None
                patch.setattr(end._bulk._door, "dial", unreachable)
            await passes(*await bulk_streams(one, other))
            assert carrier(one) == "quic"
        async with asyncio.timeout(WAIT_S):
            while carrier(one) == "quic":
                await asyncio.sleep(0.1)
                await passes(*await bulk_streams(one, other))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as briefly:
        port: int = briefly.getsockname()[1]
        return port


async def unreachable(*_: object) -> None:
    raise Unreachable("no route for TCP")


async def test_tcp_that_answers_nothing_delays_a_stream_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "WAIT_S", 0.2)
    monkeypatch.setattr(lanes, "ATTEMPT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with two() as (one, other):
            for end in (one, other):
                assert end._bulk is not None
                end._bulk._door.port = deaf.getsockname()[1]
            await passes(*await bulk_streams(one, other))
            assert carrier(one) == "quic"


async def test_client_gets_no_lane_and_no_ticket() -> None:
    async with two(role=Role.CLIENT) as (member, client):
        await passes(*await bulk_streams(client, member))
        await passes(*await bulk_streams(member, client))
        assert carrier(member) == carrier(client) == "quic"
        wish = await client.open(member.node, StreamHeader(PROTOCOL, ""))
        error = await fails(wish)
        assert isinstance(error, StreamReset) and error.code == ResetCode.FORBIDDEN


async def test_cancelled_opening_leaves_nothing_behind() -> None:
    async with two() as (one, other):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await one.open(other.node, HEADER, bulk=True)
        await passes(*await bulk_streams(one, other))
        assert len(lane_of(one, other)) == 1


# Endings


async def test_broken_lane_fails_its_streams_and_nothing_else() -> None:
    async with two() as (one, other):
        plain, plain_there = await one.open(other.node, HEADER), await next_stream(other)
        here, there = await bulk_streams(one, other)
        lane_of(other, one)._connection._transport.abort()  # type: ignore[union-attr]
        assert isinstance(await fails(here), Unreachable)
        assert isinstance(await fails(there), Unreachable)
        assert is_connected(one, other.node) and is_connected(other, one.node)
        await passes(plain, plain_there)
        await passes(*await bulk_streams(one, other))
        assert carrier(one) == carrier(other) == "quic"


@pytest.mark.parametrize("ending", ["drop", "cut"])
async def test_lane_ends_with_its_connection(ending: str) -> None:
    async with two() as (one, other):
        here, there = await bulk_streams(one, other)
        lane = lane_of(one, other)
        getattr(one, ending)(other.node, "no longer wanted")
        assert isinstance(await fails(here), Unreachable)
        assert isinstance(await fails(there), Unreachable)
        assert len(lane) == 0
        with pytest.raises(Unreachable):
            await lane.open(HEADER)


async def test_next_connection_gets_a_lane_of_its_own() -> None:
    async with two() as (one, other):
        here, _ = await bulk_streams(one, other)
        first = lane_of(one, other)
        one.cut(other.node, "test")
        await fails(here)
        async with asyncio.timeout(WAIT_S):
            while not (is_connected(one, other.node) and is_connected(other, one.node)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await passes(*await bulk_streams(one, other))
        assert lane_of(one, other) is not first


async def test_retired_connection_stays_for_the_streams_of_its_lane() -> None:
    async with two() as (one, other):
        here, there = await bulk_streams(one, other)
        old = control_of(one, other)
        old.retire("test")
        for _ in range(4):
            await passes(here, there)
            await asyncio.sleep(0.5)
        await here.finish()
        await there.finish()
        async with asyncio.timeout(WAIT_S):
            await old.ended.wait()


# Hostile members


async def test_bytes_that_are_no_frame_end_the_lane_only() -> None:
    async with two() as (one, other):
        here, _ = await bulk_streams(one, other)
        lane_of(other, one)._connection.write(b"\xff" * 64)
        assert isinstance(await fails(here), Unreachable)
        assert is_connected(one, other.node)


async def test_stream_that_breaks_the_rules_is_cut_and_its_siblings_are_not() -> None:
    async with two() as (one, other):
        here, there = await bulk_streams(one, other)
        lane = lane_of(other, one)
        number = lane._next_here
        for kind in (RecordKind.DATA, RecordKind.OPEN):  # no header first; and then too late
            lane._connection.write(record_prefix(number), encode_record(kind, b""))
        lane._connection.write(encode_reset(number + 20, 1))
        await passes(here, there)
        assert len(lane_of(one, other)) == 1


async def test_peer_opens_only_so_many_streams() -> None:
    async with two() as (one, other):
        await bulk_streams(one, other)
        lane = lane_of(one, other)
        first = lane._next_here
        opening = encode_record(RecordKind.OPEN, b"\x83\xa8protocol\xa1x\xaarequest_id\xa0\xabdeadline_ms\x00")
        for number in range(MAX_STREAMS_PER_PEER + 100):
            lane._connection.write(record_prefix(first + 2 * number), opening)
        lane._connection.write(encode_reset(first + 2 * MAX_STREAMS_PER_PEER + 2000, 1))
        async with asyncio.timeout(WAIT_S):
            while lane_of(other, one)._next_from_peer <= first + 2 * MAX_STREAMS_PER_PEER + 2000:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(lane_of(other, one)) <= MAX_STREAMS_PER_PEER


async def test_only_the_end_that_dialled_may_ask_for_a_ticket() -> None:
    async with two() as (one, other):
        dialler, dialled = (one, other) if control_of(one, other).is_dialled_here else (other, one)
        assert dialler._bulk is not None
        want = dialler._bulk._door.want()
        for asker, asked, wish in ((dialled, dialler, want), (dialler, dialled, DialMe()), (dialler, dialled, b"")):
            stream = await asker.open(asked.node, StreamHeader(PROTOCOL, ""))
            await stream.send(to_record(wish) if isinstance(wish, Want | DialMe) else data(wish))
            error = await fails(stream)
            assert isinstance(error, StreamReset) and error.code == ResetCode.PROTOCOL_ERROR
        await passes(*await bulk_streams(one, other))


async def test_wishes_that_say_nothing_do_not_pile_up() -> None:
    async with two() as (one, other):
        streams = [await one.open(other.node, StreamHeader(PROTOCOL, "")) for _ in range(lanes.MAX_WISHES + 1)]
        error = await fails(streams[-1])
        assert isinstance(error, StreamReset) and error.code == ResetCode.BUSY
