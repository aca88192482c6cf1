"""The in-process network keeps the transport contract, and does what only it can: cuts, deaths, seeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.transport.contract import HEADER, Pair, TransportContract, drain, message, next_change, next_stream
from transport.errors import Unreachable
from transport.interface import DatagramReceived, LinkState, NodeId, Role
from transport.memory import DETECTION_S, MemoryNetwork, MemoryTransport
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

A = NodeId(b"\x01" * 32)
B = NodeId(b"\x02" * 32)


async def connect(one: MemoryTransport, other: MemoryTransport) -> None:
    one.keep(other.node, other.addresses)
    other.keep(one.node, one.addresses)
    async with asyncio.timeout(60):
        while not (is_connected(one, other) and is_connected(other, one)):  # noqa: ASYNC110 - the events are the test's
            await asyncio.sleep(0.01)


def is_connected(one: MemoryTransport, other: MemoryTransport) -> bool:
    return any(link.node == other.node and link.state is LinkState.CONNECTED for link in one.links())


@pytest.fixture(params=[0.0, 0.02], ids=["at once", "20 ms"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    network = MemoryNetwork(seed=1, delay_s=request.param)
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        yield Pair(one, other, other.kill, silence_s=DETECTION_S + 1)


class TestMemory(TransportContract):
    """The shared suite."""


async def test_cut_shorter_than_detection_loses_nothing() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        here = await one.open(B, HEADER)
        network.cut(A, B)
        await here.send(message(b"held up"))
        await asyncio.sleep(DETECTION_S - 1)
        network.mend(A, B)
        there = await next_stream(other)
        assert await there.receive() == message(b"held up")


async def test_long_cut_goes_through_reconnecting_and_lost_and_heals() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        here = await one.open(B, HEADER)
        loop = asyncio.get_running_loop()
        network.cut(A, B)
        started = loop.time()
        await next_change(one, LinkState.RECONNECTING, B)
        assert loop.time() - started == pytest.approx(DETECTION_S)
        with pytest.raises(Unreachable):
            await here.receive()
        await next_change(one, LinkState.LOST, B)
        assert loop.time() - started == pytest.approx(DETECTION_S + 10)
        await asyncio.sleep(300)
        network.mend(A, B)
        await next_change(one, LinkState.CONNECTED, B)
        await connect(one, other)


async def test_restart_with_a_higher_boot_replaces_the_connection_at_once() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as one:
        async with network.transport(B, boot=1) as first:
            await connect(one, first)
            here = await one.open(B, HEADER)
            first.kill()
        async with network.transport(B, boot=2) as second:
            second.keep(A, one.addresses)
            change = await next_change(one, LinkState.CONNECTED, B)
            while change.peer is not None and change.peer.boot == 1:
                change = await next_change(one, LinkState.CONNECTED, B)
            with pytest.raises(Unreachable):
                await here.receive()


async def test_client_dials_at_once_and_is_never_dialled() -> None:
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    async with network.transport(A) as member, network.transport(B, role=Role.CLIENT) as client:
        client.keep(A, member.addresses)
        change = await next_change(member, LinkState.CONNECTED, B)
        assert loop.time() < 1.0
        assert change.peer is not None and change.peer.role is Role.CLIENT
        client.drop(A, "asleep")
        member.keep(B, client.addresses)
        await next_change(member, LinkState.LOST, B)
        await asyncio.sleep(120)
        assert not is_connected(member, client)


async def test_datagram_loss_follows_the_seed() -> None:
    async def survivors(seed: int) -> list[bytes]:
        network = MemoryNetwork(seed=seed, loss=0.3)
        async with network.transport(A) as one, network.transport(B) as other:
            await connect(one, other)
            for number in range(200):
                one.send_datagram(B, b"%d" % number)
            await asyncio.sleep(1)
            other_events = other.events()
            got: list[bytes] = []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    async for event in other_events:
                        if isinstance(event, DatagramReceived):
                            got.append(event.payload)
            return got

    first, again, other_seed = await survivors(1), await survivors(1), await survivors(2)
    assert 100 < len(first) < 180
    assert first == again
    assert first != other_seed


async def test_closing_while_streams_are_open_leaves_nothing_behind() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as one:
        async with network.transport(B) as other:
            await connect(one, other)
            here = await one.open(B, HEADER)
        with pytest.raises(Unreachable):
            await drain(here)
        assert one.windows.used_bytes == 0
        assert other.windows.used_bytes == 0
