"""A pair with a NAT between them: its port changes under way, and everything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.transport.contract import HEADER, data, message, next_change, next_datagram, next_stream
from tests.transport.quic_mesh import is_connected, live_mesh, start
from transport.interface import LinkChanged, LinkState, NodeId, Role, Stream, Transport
from transport.link_effect import Slot
from transport.quic import QuicTransport
from transport.quic.connection import QuicPeerConnection
from transport.relay import UdpRelay

pytestmark = pytest.mark.live

WAIT_S = 60.0


@asynccontextmanager
async def behind_nat() -> AsyncIterator[tuple[QuicTransport, QuicTransport, UdpRelay]]:
    """Somebody at home, a server, and the NAT between them. Only the one at home can dial."""
    mesh = live_mesh()
    async with (
        start(mesh.member_now(Role.CLIENT)) as home,
        start(mesh.owner_now()) as server,
        UdpRelay(server.addresses[0]) as nat,
    ):
        home.keep(server.node, (nat.address,))
        await next_change(home, LinkState.CONNECTED, server.node)
        await next_change(server, LinkState.CONNECTED, home.node)
        yield home, server, nat


def connection(one: Transport, other: NodeId, slot: Slot) -> QuicPeerConnection:
    assert isinstance(one, QuicTransport)
    found = one._switchboard.connection(other, slot)
    assert isinstance(found, QuicPeerConnection)
    return found


async def echoes(here: Stream, there: Stream, count: int) -> None:
    for number in range(count):
        await here.send(data(b"%d" % number * 5000))
        assert await there.receive() == data(b"%d" % number * 5000)
        await there.send(message(b"%d" % number))
        assert await here.receive() == message(b"%d" % number)


async def changes_of(transport: Transport, changes: list[LinkChanged]) -> None:
    async for event in transport.events():
        if isinstance(event, LinkChanged):
            changes.append(event)


@pytest.mark.parametrize("opener", ["home", "server"])
async def test_streams_of_either_end_go_on_when_the_nat_forgets_its_ports(opener: str) -> None:
    async with behind_nat() as (home, server, nat), asyncio.timeout(WAIT_S):
        one, other = (home, server) if opener == "home" else (server, home)
        here = await one.open(other.node, HEADER)
        there = await next_stream(other)
        before = {slot: connection(server, home.node, slot) for slot in Slot}
        places = {slot: held.address for slot, held in before.items()}
        changes: list[LinkChanged] = []
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(changes_of(transport, changes)) for transport in (home, server)]
            for _ in range(3):
                await echoes(here, there, 5)
                nat.rebind()
                home.send_datagram(server.node, b"from a new port")  # the control connection moves with the next packet
            await echoes(here, there, 5)
            for task in watching:
                task.cancel()
        assert {slot: connection(server, home.node, slot) for slot in Slot} == before
        # The relay's closed port may answer for a moment; who is behind it is back with the next packet.
        assert {change.reason for change in changes} <= {"nobody listens on its port", "it still answers"}
        while connection(server, home.node, Slot.CONTROL).address == places[Slot.CONTROL]:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        assert connection(server, home.node, Slot.DATA).address != places[Slot.DATA]


async def test_server_reaches_home_by_datagram_after_a_change_of_port() -> None:
    async with behind_nat() as (home, server, nat):
        nat.rebind()
        assert home.send_datagram(server.node, b"here I am now")
        assert (await next_datagram(server)).payload == b"here I am now"
        assert server.send_datagram(home.node, b"found you")
        assert (await next_datagram(home)).payload == b"found you"


async def test_who_is_behind_the_nat_dials_the_data_connection_for_both() -> None:
    async with behind_nat() as (home, server, nat):
        stream = await server.open(home.node, HEADER)
        await stream.send(message(b"work for you"))
        assert await (await next_stream(home)).receive() == message(b"work for you")
        assert connection(home, server.node, Slot.DATA).is_dialled_here
        assert nat.clients == 1
        assert is_connected(server, home.node)
