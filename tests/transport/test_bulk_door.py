"""Who gets a lane through the TCP port, and what everybody else gets: nothing."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import uvloop

from transport.bulk import door as door_module
from transport.bulk.connection import LaneConnection
from transport.bulk.door import MAX_HALF_OPEN, Door
from transport.bulk.frame import Frame, encode_end
from transport.bulk.message import Grant
from transport.bulk.pinning import LaneIdentity
from transport.errors import MeshError, ProtocolError, Refused, Unreachable
from transport.identity import NodeKey
from transport.interface import Address

pytestmark = pytest.mark.live

loop_factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

LOOPBACK = Address("127.0.0.1", 0)
WAIT_S = 60.0
DICE = random.Random(1)


class Sink:
    """Keeps what an open lane brings."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.losses: asyncio.Queue[str] = asyncio.Queue()

    def frames_received(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.frames.put_nowait(frame)

    def lost(self, reason: str) -> None:
        self.losses.put_nowait(reason)


class End:
    """A node with a door. entered: holder, connection and sink of everyone who came in."""

    def __init__(self) -> None:
        self.key = NodeKey.generate(DICE.randbytes)
        self.identity = LaneIdentity(self.key, 1.8e9)
        self.entered: asyncio.Queue[tuple[str, LaneConnection, Sink]] = asyncio.Queue()
        self.door: Door[str] = Door(self.identity, LOOPBACK, self._enter)

    def _enter(self, holder: str, connection: LaneConnection) -> Sink:
        if holder == "gone":
            raise Unreachable("that connection has ended")
        sink = Sink()
        self.entered.put_nowait((holder, connection, sink))
        return sink

    def grant_to(self, other: End, holder: str = "connection", host: str = "127.0.0.1") -> Grant:
        return self.door.grant(holder, other.key.node, host, other.door.want())

    async def dial(self, other: End, grant: Grant) -> tuple[LaneConnection, Sink]:
        sink, made = Sink(), []

        def entered(connection: LaneConnection) -> Sink:
            made.append(connection)
            return sink

        async with asyncio.timeout(WAIT_S):
            await self.door.dial("127.0.0.1", other.key.node, grant, entered)
        return made[0], sink


@asynccontextmanager
async def ends(count: int = 2) -> AsyncIterator[list[End]]:
    """Some nodes; the first one's door is open."""
    made = [End() for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(made[0].door.accept_all(lambda work, name: tasks.append(group.create_task(work))))]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
    for end in made:
        end.door.close()


async def stranger(end: End) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(WAIT_S):
        return await asyncio.open_connection("127.0.0.1", end.door.port)


async def everything(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def nobody_came(end: End) -> bool:
    return end.entered.empty()


async def test_ticket_and_key_open_a_lane_both_ways() -> None:
    async with ends() as (host, guest):
        there, far_sink = await guest.dial(host, host.grant_to(guest))
        async with asyncio.timeout(WAIT_S):
            holder, here, sink = await host.entered.get()
            assert holder == "connection"
            assert here.peer_node() == guest.key.node
            assert there.peer_node() == host.key.node
            there.write(encode_end(4))
            assert await sink.frames.get() == Frame(4, None)
            here.write(encode_end(5))
            assert await far_sink.frames.get() == Frame(5, None)
            here.abort()
            assert "ended" in await far_sink.losses.get()
        there.abort()


async def test_lane_is_tls_13_and_nothing_names_anybody_in_the_clear() -> None:
    async with ends() as (host, guest):
        connection, _ = await guest.dial(host, host.grant_to(guest))
        assert connection._transport is not None
        tls = connection._transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"
        assert not tls.server_hostname
        connection.abort()


async def test_ticket_is_used_once() -> None:
    async with ends() as (host, guest):
        grant = host.grant_to(guest)
        first, _ = await guest.dial(host, grant)
        host.grant_to(guest)  # so that the port listens to this host at all
        with pytest.raises((MeshError, OSError)):
            await guest.dial(host, grant)
        first.abort()
        assert host.entered.qsize() == 1


async def test_member_cannot_use_or_spend_another_members_ticket() -> None:
    async with ends(3) as (host, guest, thief):
        grant = host.grant_to(guest)
        own = host.grant_to(thief, "the thief's connection")
        with pytest.raises((MeshError, OSError)):
            await thief.dial(host, msgspec.structs.replace(own, ticket=grant.ticket))
        assert nobody_came(host)
        connection, _ = await guest.dial(host, grant)
        connection.abort()


async def test_stolen_ticket_without_the_key_fails_in_tls() -> None:
    async with ends(3) as (host, guest, thief):
        grant = host.grant_to(guest)
        with pytest.raises((MeshError, OSError)):
            await thief.dial(host, grant)
        assert nobody_came(host)
        assert host.door.strangers == 1


async def test_another_node_behind_the_port_is_found_out() -> None:
    async with ends(3) as (host, guest, expected):
        grant = host.grant_to(guest)
        with pytest.raises(ProtocolError, match="another node's"):
            await guest.dial(expected, grant)
        forged = msgspec.structs.replace(grant, certificate=expected.identity.certificate)
        with pytest.raises((MeshError, OSError)):
            await guest.dial(expected, forged)
        assert nobody_came(host)


async def test_want_with_another_nodes_certificate_gets_no_ticket() -> None:
    async with ends(3) as (host, guest, other):
        with pytest.raises(ProtocolError, match="another node's"):
            host.door.grant("connection", guest.key.node, "127.0.0.1", other.door.want())


async def test_ticket_of_a_connection_that_ended_opens_nothing() -> None:
    async with ends() as (host, guest):
        with pytest.raises((MeshError, OSError)):
            await guest.dial(host, host.grant_to(guest, "gone"))
        withdrawn = host.grant_to(guest, "withdrawn")
        host.door.withdraw("withdrawn")
        host.grant_to(guest)
        with pytest.raises((MeshError, OSError)):
            await guest.dial(host, withdrawn)
        assert nobody_came(host)


async def test_without_a_ticket_out_nobody_gets_as_far_as_tls() -> None:
    async with ends() as (host, guest):
        reader, writer = await stranger(host)
        assert await everything(reader) == b""
        writer.close()
        host.grant_to(guest, host="192.0.2.9")  # for somebody who comes from elsewhere
        reader, writer = await stranger(host)
        assert await everything(reader) == b""
        writer.close()
        assert host.door.strangers == 2


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: mesh\r\n\r\n",
        b"\x00" * 5000,
        b"\x16\x03\x01\xff\xff" + b"\x01" * 3000,
        struct.pack("!IIB", 0, 4, 17) + b"\x00" * 4,
    ],
    ids=["http", "zeros", "half a hello", "a frame"],
)
async def test_noise_gets_no_answer_but_an_alert(noise: bytes) -> None:
    async with ends() as (host, guest):
        host.grant_to(guest)
        reader, writer = await stranger(host)
        writer.write(noise)
        writer.write_eof()
        answer = await everything(reader)
        assert len(answer) <= 7, "more than one TLS alert"
        writer.close()
        assert nobody_came(host)
        connection, _ = await guest.dial(host, host.grant_to(guest))
        connection.abort()


async def test_who_says_nothing_is_sent_away_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "HANDSHAKE_S", 0.2)
    async with ends() as (host, guest):
        host.grant_to(guest)
        reader, writer = await stranger(host)
        assert await everything(reader) == b""
        writer.close()


async def test_silent_connections_take_only_so_many_places() -> None:
    async with ends() as (host, guest):
        grant = host.grant_to(guest)
        held = []
        for _ in range(MAX_HALF_OPEN):
            held.append(await stranger(host))
        reader, writer = await stranger(host)
        assert await everything(reader) == b""
        writer.close()
        for _, silent in held:
            silent.close()
        async with asyncio.timeout(WAIT_S):
            while host.door.strangers < MAX_HALF_OPEN + 1:  # noqa: ASYNC110 - the door reports no event
                await asyncio.sleep(0.01)
        connection, _ = await guest.dial(host, grant)
        connection.abort()


async def test_port_of_the_same_number_unless_it_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other: Door[str] = Door(End().identity, Address("127.0.0.1", port), lambda *_: Sink())
        assert other.port != port
        other.close()
    same: Door[str] = Door(End().identity, Address("127.0.0.1", port), lambda *_: Sink())
    assert same.port == port
    same.close()


async def test_too_many_tickets_at_once_are_refused() -> None:
    async with ends() as (host, guest):
        with pytest.raises(Refused):
            for number in range(1000):
                host.grant_to(guest, f"connection {number}")
