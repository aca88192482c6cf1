"""What aioquic does that would hurt, and no other test here shows: docs/decisions/0011 has the whole list."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import uvloop
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.quic.stream import QuicStream

from tests.transport.contract import HEADER, message, next_change, next_stream
from tests.transport.quic_mesh import LOOPBACK, live_mesh, start, two_members
from tests.transport.test_quic_hostile import connection_of, works
from transport import wire
from transport.errors import ResetCode, Unreachable
from transport.handshake import channel_binding
from transport.identity import NodeKey
from transport.interface import Address, LinkState, RecordKind, Role
from transport.link_effect import Slot
from transport.quic import QuicTransport, liveness
from transport.quic.connection import QuicPeerConnection
from transport.quic.internals import BURST_S, BoundedConnection, BurstPacer
from transport.quic.session import IDLE_TIMEOUT_S, SessionFactory
from transport.quic.udp import BUFFER_BYTES, UdpSocket
from transport.record import encode_record
from transport.relay import UdpRelay

pytestmark = pytest.mark.live

# libuv stops polling a socket on which the kernel reports an error, asyncio does not.
loop_factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def quic_stream_of(one: QuicTransport, other: QuicTransport) -> QuicStream:
    """aioquic's part of the only stream between them."""
    connection = connection_of(one, other, Slot.DATA)
    assert connection._streams is not None
    (number,) = connection._streams._streams
    return connection._quic._streams[number]


async def test_end_of_the_handshake_can_be_awaited_when_it_is_long_over() -> None:
    async with two_members() as (owner, member):
        connection = connection_of(owner, member)
        async with asyncio.timeout(60):
            assert await connection.secured == await connection.secured
            connection.close("test")
            assert await connection.secured


async def test_handshake_that_failed_can_be_awaited_too() -> None:
    async with start(live_mesh().owner_now()) as owner:
        connection = owner._endpoint.dial(("127.0.0.1", 9))
        connection.close("changed our mind")
        async with asyncio.timeout(60):
            with pytest.raises(Unreachable, match="changed our mind"):
                await connection.secured


async def test_secrets_of_two_sessions_of_one_node_do_not_mix() -> None:
    """aioquic writes them where the configuration says, whichever connection they are of."""
    factory = SessionFactory(NodeKey(b"\x01" * 32), time.time())
    (one, of_one), (two, of_two) = factory.configuration(), factory.configuration()
    for label in ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"):
        for configuration, secret in ((one, b"1"), (two, b"2")):
            assert configuration.secrets_log_file is not None
            configuration.secrets_log_file.write(f"{label} {bytes(32).hex()} {secret.hex() * 32}\n")
    assert of_one.binding() == channel_binding(b"1" * 32, b"1" * 32)
    assert of_two.binding() == channel_binding(b"2" * 32, b"2" * 32)


async def test_pair_that_says_nothing_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.quic.session.IDLE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(liveness, "PING_EVERY_S", 0.3)
    async with two_members() as (owner, member):
        kept = connection_of(owner, member)
        await asyncio.sleep(3.0)
        assert connection_of(owner, member) is kept and not kept.ended.is_set()


async def test_idle_pair_notices_that_the_other_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone without a word of anyone: no goodbye, and no ICMP from its host."""
    monkeypatch.setattr(liveness, "SILENCE_S", 1.0)
    monkeypatch.setattr(liveness, "PING_EVERY_S", 1.0)
    mesh = live_mesh()
    async with (
        start(mesh.owner_now()) as owner,
        UdpRelay(owner.addresses[0]) as relay,
        start(mesh.member_now(Role.CLIENT)) as member,
    ):
        member.keep(owner.node, (relay.address,))
        await next_change(member, LinkState.CONNECTED, owner.node)
        await asyncio.sleep(0.2)  # nothing is unanswered when it goes
        relay.cut()
        await next_change(member, LinkState.RECONNECTING, owner.node)


async def test_both_ends_agree_on_the_idle_time() -> None:
    async with two_members() as (owner, member):
        for one, other in ((owner, member), (member, owner)):
            assert connection_of(one, other)._quic._idle_timeout() == IDLE_TIMEOUT_S


async def test_write_that_crosses_a_reset_of_the_peer_is_lost_and_not_an_error() -> None:
    """aioquic obeys STOP_SENDING before it tells; a write in between raises RuntimeError there."""
    async with two_members() as (owner, member):
        here = await owner.open(member.node, HEADER)
        await next_stream(member)
        quic_stream_of(owner, member).sender.reset(ResetCode.CANCELLED)
        await here.send(message(b"too late"))
        await here.finish()
        here.reset(ResetCode.CANCELLED)
        await works(owner, member)


async def test_reset_of_a_stream_that_aioquic_has_forgotten_is_not_an_error() -> None:
    async with two_members() as (owner, member):
        here = await owner.open(member.node, HEADER)
        await next_stream(member)
        number = quic_stream_of(owner, member).stream_id
        assert number is not None
        del connection_of(owner, member, Slot.DATA)._quic._streams[number]
        here.reset(ResetCode.CANCELLED)
        await works(owner, member)


async def test_streams_that_overtake_each_other_are_all_accepted() -> None:
    """aioquic opens those below the one that came, without a word; a later one of them is new to us all the same."""
    async with two_members() as (owner, member):
        await works(owner, member)
        connection = connection_of(owner, member, Slot.DATA)
        table = connection._streams
        assert table is not None
        first = table._next_from_peer
        connection._quic._get_or_create_stream(QuicFrameType.STREAM_BASE, first + 8)
        opening = encode_record(RecordKind.OPEN, wire.encode(HEADER))
        for number in (first + 8, first, first + 4):
            table.data_received(number, opening, False)
        async with asyncio.timeout(60):
            arrived = [await next_stream(owner) for _ in range(3)]
        assert [stream.header for stream in arrived] == [HEADER] * 3
        assert len(table) == 3


async def test_connection_that_heard_nothing_readable_has_nothing_to_send() -> None:
    """aioquic's `datagrams_to_send` raises IndexError before it knows where to."""
    async with start(live_mesh().owner_now()) as owner:
        configuration, secrets = owner._endpoint._sessions.configuration()
        quic = BoundedConnection(configuration=configuration, original_destination_connection_id=bytes(8))
        connection = QuicPeerConnection(owner._endpoint, quic, secrets, ("127.0.0.1", 9))
        assert connection.to_send(time.monotonic()) == []


async def test_nobody_at_an_address_does_not_deafen_the_socket() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now(Role.CLIENT)) as member:
        dead = Address("127.0.0.1", 9)
        member.keep(owner.node, (dead, dead, *owner.addresses))
        await next_change(member, LinkState.CONNECTED, owner.node)
        await works(member, owner)


async def test_sockets_have_room_for_bursts() -> None:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp = UdpSocket(LOOPBACK)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        got, usual = (one.getsockopt(socket.SOL_SOCKET, option) for one in (udp.socket, plain))
        assert got >= BUFFER_BYTES or got > usual, "as much as this kernel gives"
    plain.close()
    udp.close()


def burst(pacer: QuicPacketPacer) -> int:
    """How many packets it lets go at one moment, well into a transfer of 14.5 MB/s at a round trip of a millisecond."""
    now = 100.0
    pacer.update_rate(congestion_window=14_520, smoothed_rtt=0.001)
    for count in range(1000):
        if pacer.next_send_time(now) is not None:
            return count
        pacer.update_after_send(now)
    return 1000


async def test_packets_leave_in_bursts_that_timers_can_keep() -> None:
    ours, stock = burst(BurstPacer(max_datagram_size=1452)), burst(QuicPacketPacer(max_datagram_size=1452))
    assert ours * 1452 >= 14_520_000 * BURST_S > stock * 1452
