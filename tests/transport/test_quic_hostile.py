"""What strangers and broken peers send to the port: nothing but their own connection is harmed."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from contextlib import AsyncExitStack

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted

from tests.transport.contract import HEADER, data, message, next_change, next_datagram, next_stream
from tests.transport.quic_mesh import connect, live_mesh, start, two_members
from tests.transport.stranger import Stranger, write_far_ahead
from transport.credit import INITIAL_WINDOW_BYTES
from transport.errors import ProtocolError, ResetCode, StreamReset, Unreachable
from transport.handshake import MAX_MESSAGE_BYTES
from transport.interface import MAX_DATAGRAM_BYTES, Address, LinkState, RecordKind, Role
from transport.link_effect import Dial, Slot
from transport.quic import QuicOptions, QuicTransport, admitting
from transport.quic.connection import CONNECTION_WINDOW_BYTES, QuicPeerConnection
from transport.quic.greeting import GREETING_STREAM
from transport.quic.internals import drop_oldest_datagrams
from transport.quic.session import ADMISSION_WINDOW_BYTES
from transport.quic.strangers import MAX_HALF_OPEN, MAX_PER_NETWORK, RETRY_ABOVE_PER_NETWORK
from transport.quic.transport import MAX_CONNECTIONS_PER_PEER
from transport.record import encode_record
from transport.switchboard import MAX_STREAMS
from transport.windows import ALWAYS_BYTES

pytestmark = pytest.mark.live


def connection_of(one: QuicTransport, other: QuicTransport, slot: Slot = Slot.CONTROL) -> QuicPeerConnection:
    connection = one._switchboard.connection(other.node, slot)
    assert isinstance(connection, QuicPeerConnection)
    return connection


async def works(one: QuicTransport, other: QuicTransport) -> None:
    """A stream between the two still does."""
    async with asyncio.timeout(60):
        here = await one.open(other.node, HEADER)
        await here.send(message(b"hello"))
        there = await next_stream(other)
        assert await there.receive() == message(b"hello")
        here.reset(ResetCode.CANCELLED)


async def until_none_half_open(transport: QuicTransport) -> None:
    async with asyncio.timeout(60):
        while transport._endpoint.half_open:  # noqa: ASYNC110 - nothing announces that a stranger gave up
            await asyncio.sleep(0.1)


# Strangers


async def test_random_udp_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(5)
    async with two_members() as (owner, member):
        target = (owner.addresses[0].host, owner.addresses[0].port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, caplog.at_level(logging.WARNING):
            for number in range(1500):
                noise = bytearray(dice.randbytes(dice.choice((0, 1, 5, 20, 700, 1200, 1452, 9000))))
                if noise and number % 2:
                    noise[0] = dice.choice((0xC0, 0xC3, 0xD0, 0xE0, 0xF0, 0x40))
                    noise[1:5] = b"\x00\x00\x00\x01"[: max(0, len(noise) - 1)]
                plain.sendto(noise, target)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.2)
        assert owner._endpoint.half_open == 0
        assert not [record for record in caplog.records if record.exc_info]
        await works(owner, member)


async def test_damaged_first_packets_cost_bounded_room() -> None:
    dice = random.Random(6)
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now(Role.CLIENT)) as member:
        target = (owner.addresses[0].host, owner.addresses[0].port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for _ in range(200):
                (packet, *_) = Stranger(owner.addresses[0]).first_flight()
                damaged = bytearray(packet)
                for _ in range(dice.randrange(1, 6)):
                    damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
                plain.sendto(damaged, target)
            await asyncio.sleep(0.2)
        assert owner._endpoint.half_open <= MAX_HALF_OPEN
        member.keep(owner.node, owner.addresses)
        await next_change(member, LinkState.CONNECTED, owner.node)


async def test_flood_of_half_open_handshakes_is_bounded_and_lets_honest_peers_in() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now(Role.CLIENT)) as member:
        target = (owner.addresses[0].host, owner.addresses[0].port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for _ in range(150):
                for packet in Stranger(owner.addresses[0]).first_flight():
                    plain.sendto(packet, target)
            async with asyncio.timeout(60):
                while owner._endpoint.half_open < RETRY_ABOVE_PER_NETWORK:  # noqa: ASYNC110 - counts what arrives
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert owner._endpoint.half_open == RETRY_ABOVE_PER_NETWORK
            member.keep(owner.node, owner.addresses)
            await next_change(member, LinkState.CONNECTED, owner.node)
        await until_none_half_open(owner)
        assert len(owner._endpoint.connections) == 1


async def test_address_that_answers_retry_may_fill_its_own_places_only() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(Stranger(owner.addresses[0])) for _ in range(MAX_HALF_OPEN + 8)]
        for stranger in strangers:
            stranger.begin()
            await asyncio.sleep(0)

        def completed() -> int:
            return sum(stranger.saw(HandshakeCompleted) for stranger in strangers)

        async with asyncio.timeout(60):
            while completed() <= RETRY_ABOVE_PER_NETWORK:  # noqa: ASYNC110 - counts what others do
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        assert owner._endpoint.half_open <= MAX_PER_NETWORK + RETRY_ABOVE_PER_NETWORK
        assert completed() <= MAX_PER_NETWORK + RETRY_ABOVE_PER_NETWORK
        async with start(mesh.member_now(Role.CLIENT), bind=Address("127.0.0.2", 0)) as member:
            member.keep(owner.node, owner.addresses)
            await next_change(member, LinkState.CONNECTED, owner.node)


async def test_silent_stranger_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admitting, "HANDSHAKE_S", 1.0)
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, Stranger(owner.addresses[0]) as stranger:
        await stranger.shake_hands()
        end = await stranger.end()
        assert "admission" in end.reason_phrase
        await until_none_half_open(owner)
        assert not owner.links()


async def test_stranger_may_open_no_stream() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, Stranger(owner.addresses[0]) as stranger:
        await stranger.shake_hands()
        assert stranger.quic._remote_max_streams_bidi == 0
        stranger.quic._remote_max_streams_bidi = 10
        stranger.quic.send_stream_data(0, encode_record(RecordKind.MESSAGE, b"let me in"))
        stranger.transmit()
        end = await stranger.end()
        assert "streams" in end.reason_phrase
        assert not owner.links()


async def test_stranger_cannot_make_room_for_what_it_never_sends() -> None:
    """One byte at the end of what is allowed: aioquic keeps room for all before it, and would allow as much again."""
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, Stranger(owner.addresses[0]) as stranger:
        await stranger.shake_hands()
        await stranger.until(lambda: bool(stranger.received(GREETING_STREAM)))
        (connection,) = owner._endpoint.connections
        for _ in range(8):
            write_far_ahead(stranger.quic, GREETING_STREAM)
            stranger.transmit()
            await asyncio.sleep(0.02)
        assert connection._quic._missing_bytes() <= ADMISSION_WINDOW_BYTES
        assert stranger.quic._remote_max_data == ADMISSION_WINDOW_BYTES


@pytest.mark.parametrize(
    "noise",
    [
        encode_record(RecordKind.MESSAGE, b"not a proof"),
        encode_record(RecordKind.DATA, b"wrong kind"),
        b"\xff" * 100,
        encode_record(RecordKind.MESSAGE, bytes(MAX_MESSAGE_BYTES + 1)),
        encode_record(RecordKind.MESSAGE, b"") * 2000,
    ],
)
async def test_stranger_who_babbles_is_refused_and_counted(noise: bytes) -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, Stranger(owner.addresses[0]) as stranger:
        await stranger.shake_hands()
        await stranger.until(lambda: bool(stranger.received(GREETING_STREAM)))
        stranger.quic.send_stream_data(GREETING_STREAM, noise)
        stranger.transmit()
        await stranger.end()
        async with asyncio.timeout(60):
            while not owner.refusals:  # noqa: ASYNC110 - nothing announces a refusal
                await asyncio.sleep(0.01)
        assert owner.refusals == {"malformed": 1}


async def test_other_protocol_is_not_spoken() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, Stranger(owner.addresses[0], alpn="h3") as stranger:
        stranger.begin()
        await stranger.end()
        assert not stranger.saw(HandshakeCompleted)


async def test_no_session_ticket_is_ever_issued() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, Stranger(owner.addresses[0]) as stranger:
        await stranger.shake_hands()
        await stranger.until(lambda: bool(stranger.received(GREETING_STREAM)))
        await asyncio.sleep(0.1)
        assert stranger.tickets == []


async def test_datagrams_of_a_stranger_go_nowhere() -> None:
    mesh = live_mesh()
    configuration = QuicConfiguration(
        alpn_protocols=["meshd/1"], verify_mode=ssl.CERT_NONE, max_datagram_frame_size=2000
    )
    async with (
        start(mesh.owner_now()) as owner,
        Stranger(owner.addresses[0], configuration=configuration) as stranger,
    ):
        await stranger.shake_hands()
        stranger.quic.send_datagram_frame(b"hello")
        stranger.transmit()
        await stranger.until(lambda: bool(stranger.received(GREETING_STREAM)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(owner.events())


# Members that break the rules


async def test_datagram_larger_than_allowed_ends_that_connection() -> None:
    async with two_members() as (owner, member):
        connection_of(member, owner)._quic.send_datagram_frame(bytes(MAX_DATAGRAM_BYTES + 20))
        connection_of(member, owner)._asked()
        await next_change(owner, LinkState.RECONNECTING, member.node)


async def test_stream_of_nonsense_is_reset_and_the_connection_lives_on() -> None:
    async with two_members() as (owner, member):
        quic = connection_of(member, owner)._quic
        quic.send_stream_data(quic.get_next_available_stream_id(), b"\xff" * 64)
        await works(member, owner)


async def test_sender_that_ignores_credit_is_reset() -> None:
    async with two_members() as (owner, member):
        here = await member.open(owner.node, HEADER)
        there = await next_stream(owner)
        carrying = connection_of(member, owner, Slot.DATA)
        number = max(carrying._quic._streams)
        piece = encode_record(RecordKind.DATA, bytes(60_000))
        for _ in range(4):
            carrying._quic.send_stream_data(number, piece)
        carrying._asked()
        async with asyncio.timeout(60):
            with pytest.raises(StreamReset):
                await here.receive()
            with pytest.raises(ProtocolError, match="window"):
                await there.receive()
        await works(member, owner)


async def test_member_cannot_make_room_for_what_it_never_sends() -> None:
    async with two_members() as (owner, member):
        await works(owner, member)
        sending, keeping = connection_of(member, owner, Slot.DATA), connection_of(owner, member, Slot.DATA)
        most = 0
        for _ in range(12):
            number = sending._quic.get_next_available_stream_id()
            sending._quic.send_stream_data(number, b"")
            for _ in range(4):
                write_far_ahead(sending._quic, number)
                sending._asked()
                await asyncio.sleep(0.01)
                most = max(most, keeping._quic._missing_bytes())
        assert CONNECTION_WINDOW_BYTES // 2 < most <= CONNECTION_WINDOW_BYTES


async def test_reset_of_a_stream_that_never_spoke_leaves_nothing() -> None:
    async with two_members() as (owner, member):
        quic = connection_of(member, owner)._quic
        for _ in range(50):
            number = quic.get_next_available_stream_id()
            quic.send_stream_data(number, b"")
            quic.reset_stream(number, 7)
        connection_of(member, owner)._asked()
        await works(member, owner)
        async with asyncio.timeout(60):
            while len(connection_of(owner, member)._quic._streams) > 2:
                connection_of(owner, member)._asked()
                await asyncio.sleep(0.02)


async def test_library_error_closes_that_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = live_mesh()
    async with (
        start(mesh.owner_now()) as owner,
        start(mesh.member_now()) as member,
        start(mesh.member_now()) as other,
    ):
        await connect(owner, member)
        await connect(owner, other)

        def explode(*_: object) -> None:
            raise AssertionError("as an aioquic of old did")

        monkeypatch.setattr(connection_of(owner, member)._quic, "receive_datagram", explode)
        member.send_datagram(owner.node, b"boom")
        await next_change(owner, LinkState.RECONNECTING, member.node)
        await works(owner, other)


async def test_member_that_keeps_dialling_holds_so_many_connections() -> None:
    async with two_members() as (owner, member):
        for _ in range(MAX_CONNECTIONS_PER_PEER + 4):
            await member._dial_peer(Dial(owner.node, owner.addresses, Slot.DATA))
            await member.open(owner.node, HEADER)  # so that a replaced connection stays
            await next_stream(owner)
        held = [one for one in owner._endpoint.connections if one.is_admitted]
        assert len(held) == MAX_CONNECTIONS_PER_PEER
        assert connection_of(owner, member, Slot.DATA) in held
        await works(member, owner)


async def test_streams_beyond_the_window_budget_are_busy_and_the_rest_goes_on() -> None:
    mesh = live_mesh()
    budget = QuicOptions(budget_bytes=0)  # what is always granted remains
    async with start(mesh.owner_now(), options=budget) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        count = ALWAYS_BYTES // INITIAL_WINDOW_BYTES
        allowed = [await member.open(owner.node, HEADER) for _ in range(count)]
        taken = [await next_stream(owner) for _ in range(count)]
        one_more = await member.open(owner.node, HEADER)
        async with asyncio.timeout(60):
            with pytest.raises(StreamReset) as refused:
                await one_more.receive()
            assert refused.value.code == ResetCode.BUSY
            await allowed[0].send(message(b"still served"))
            assert await taken[0].receive() == message(b"still served")
            for stream in (allowed[1], taken[1]):
                await stream.finish()
            assert await taken[1].receive() is None
            assert await allowed[1].receive() is None
            await works(member, owner)


# Two connections


async def test_datagrams_pass_while_a_stream_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_members() as (owner, member):
        stream = await owner.open(member.node, HEADER)
        stuck = connection_of(owner, member, Slot.DATA)
        monkeypatch.setattr(stuck, "to_send", lambda now: [])  # as loss and congestion control would have it
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    await stream.send(data(bytes(16384)))
        assert owner.send_datagram(member.node, b"on time")
        assert (await next_datagram(member)).payload == b"on time"
        assert not member._switchboard._inbox._streams


async def test_both_connections_of_a_pair_use_one_port_at_each_end() -> None:
    async with two_members() as (owner, member):
        await works(owner, member)
        for one, other in ((owner, member), (member, owner)):
            assert {connection_of(one, other, slot).address for slot in Slot} == set(other.addresses)


# What we reach into aioquic for


async def test_limits_widen_with_admission() -> None:
    async with two_members() as (owner, member):
        await works(owner, member)
        for one, other in ((owner, member), (member, owner)):
            for slot in Slot:
                quic = connection_of(one, other, slot)._quic
                assert quic._remote_max_streams_bidi == MAX_STREAMS[slot]
                assert quic._remote_max_data >= 8 << 20


async def test_unsent_datagrams_are_bounded() -> None:
    async with two_members() as (owner, member):
        connection = connection_of(owner, member)
        for number in range(5000):
            connection.send_datagram(b"%d" % number)
        assert len(connection._quic._datagrams_pending) <= 256
        assert drop_oldest_datagrams(connection._quic, 10) > 0
        assert connection._quic._datagrams_pending[-1] == b"4999"


async def test_channel_bindings_agree_and_differ_between_sessions() -> None:
    mesh = live_mesh()
    async with (
        start(mesh.owner_now()) as owner,
        start(mesh.member_now()) as member,
        start(mesh.member_now()) as other,
    ):
        await connect(owner, member)
        await connect(owner, other)
        one = await connection_of(owner, member).secured
        two = await connection_of(owner, other).secured
        assert one == await connection_of(member, owner).secured
        assert two == await connection_of(other, owner).secured
        assert one != two


async def test_open_after_the_connection_ended_is_unreachable() -> None:
    async with two_members() as (owner, member):
        connection = connection_of(owner, member)
        connection.close("test")
        with pytest.raises(Unreachable):
            await connection.open(HEADER)
        await next_change(member, LinkState.RECONNECTING, owner.node)
