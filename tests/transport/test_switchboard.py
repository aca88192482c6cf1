"""What the switchboard does for every carrier: two connections a pair, made and retired as they are needed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.transport.contract import HEADER, message, next_stream
from tests.transport.test_memory import connect, is_connected
from transport.errors import ResetCode, StreamReset, Unreachable
from transport.inbox import MAX_WAITING_STREAMS
from transport.interface import LinkState, NodeId, Role, Stream, StreamHeader, Transport
from transport.link import FIRST_BACKOFF_S, HIGHER_ID_WAITS_S, MAX_HURRIED_WAIT_S, STEADY_AFTER_S
from transport.link_effect import DIAL_PROTOCOL, Dial, Slot
from transport.memory import DETECTION_S, RETIRED_S, MemoryNetwork, MemoryTransport
from transport.switchboard import DATA_DIAL_S, DATA_IDLE_S, IDLE_CHECK_S
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

A, B, C = (NodeId(bytes([value]) * 32) for value in (1, 2, 3))
SMALL = StreamHeader("gossip/1", "r-1")


def has_data(one: MemoryTransport, other: MemoryTransport) -> bool:
    return one.switchboard.connection(other.node, Slot.DATA) is not None


async def exchange(one: Transport, other: Transport, header: StreamHeader = HEADER) -> None:
    """One stream, to its end."""
    here = await one.open(other.node, header)
    there = await next_stream(other)
    await here.finish()
    await there.finish()
    assert await there.receive() is None
    assert await here.receive() is None


async def test_data_connection_comes_with_the_first_stream_that_needs_it() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        await exchange(one, other, SMALL)
        assert not has_data(one, other) and not has_data(other, one)
        await exchange(one, other)
        assert has_data(one, other) and has_data(other, one)


@pytest.mark.parametrize("opener", [A, B])
async def test_end_that_dialled_dials_for_both(opener: NodeId) -> None:
    network = MemoryNetwork(delay_s=0.01)
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        nodes = {A: one, B: other}
        await exchange(nodes[opener], nodes[B if opener == A else A])
        dialled = {
            slot: connection.is_dialled_here
            for slot in Slot
            if (connection := one.switchboard.connection(B, slot)) is not None
        }
        assert dialled == {Slot.CONTROL: True, Slot.DATA: True}


async def test_idle_data_connection_goes_at_both_ends_and_comes_back() -> None:
    network = MemoryNetwork(delay_s=0.01)
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        await exchange(one, other)
        await asyncio.sleep(DATA_IDLE_S - 1)
        assert has_data(one, other) and has_data(other, one)
        await asyncio.sleep(2 * IDLE_CHECK_S)
        assert not has_data(one, other) and not has_data(other, one)
        assert [link.state for link in one.links()] == [LinkState.CONNECTED]
        await exchange(other, one)
        assert has_data(one, other)


async def test_data_connection_with_a_stream_is_not_idle_however_quiet() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        here = await one.open(B, HEADER)
        there = await next_stream(other)
        await asyncio.sleep(10 * DATA_IDLE_S)
        await here.send(message(b"still here"))
        assert await there.receive() == message(b"still here")


async def test_data_connection_that_cannot_be_made_fails_its_streams_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        network.detach(other)  # its control connection stands, and nobody reaches it any more
        for opener, far in ((one, other), (other, one)):
            started = loop.time()
            with pytest.raises(Unreachable):
                await opener.open(far.node, HEADER)
            assert loop.time() - started <= DATA_DIAL_S
        await exchange(one, other, SMALL)
        network.attach(other)
        await asyncio.sleep(DATA_DIAL_S)
        await exchange(one, other)


async def test_drop_fails_whoever_waits_for_a_data_connection() -> None:
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        network.detach(other)
        started = loop.time()
        loop.call_later(1.0, one.drop, B, "changed our mind")
        with pytest.raises(Unreachable):
            await one.open(B, HEADER)
        assert loop.time() - started == pytest.approx(1.0)


async def test_cancelled_open_leaves_the_others_waiting() -> None:
    network = MemoryNetwork(delay_s=0.1)
    async with network.transport(A) as one, network.transport(B) as other, asyncio.TaskGroup() as group:
        await connect(one, other)
        doomed, patient = (group.create_task(one.open(B, HEADER)) for _ in range(2))
        await asyncio.sleep(0.05)
        doomed.cancel()
        stream = await patient
        await stream.send(message(b"made it"))
        assert await (await next_stream(other)).receive() == message(b"made it")


async def test_asking_to_dial_over_and_over_dials_once() -> None:
    network = MemoryNetwork(delay_s=0.01)
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        for _ in range(20):
            stream = await other.open(A, StreamHeader(DIAL_PROTOCOL, ""))
            with pytest.raises(StreamReset):
                await stream.receive()
        await asyncio.sleep(1)
        assert len(one._connections) == 2


async def test_who_waits_for_data_gets_it_though_the_right_to_dial_has_changed_hands() -> None:
    """One end asks the other to dial; before that is heard, another control connection makes it its own turn."""
    network = MemoryNetwork(delay_s=0.1)
    async with network.transport(A) as one, network.transport(B) as other, asyncio.TaskGroup() as group:
        other.keep(A, one.addresses)
        await asyncio.sleep(HIGHER_ID_WAITS_S + 1)
        assert is_connected(one, other) and not has_data(one, other)
        group.create_task(one._dial(Dial(B, other.addresses)))
        await asyncio.sleep(0.15)
        async with asyncio.timeout(1.5):
            await one.open(B, HEADER)


async def test_who_was_not_heard_when_it_asked_for_a_dial_asks_again() -> None:
    """The end that dials doubted the peer at that moment, and whoever waited has given up since."""
    network = MemoryNetwork(delay_s=0.1)
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        for patience_s in (0.5, 0.5, 3.0):
            one.doubt(B, "test")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await exchange(other, one)
        assert has_data(other, one)


@pytest.mark.parametrize("apart_s", [0.0, 0.05, 0.1, 0.3])
async def test_both_that_dial_at_once_keep_one_connection_of_each_kind(apart_s: float) -> None:
    network = MemoryNetwork(delay_s=0.1)
    async with network.transport(A) as one, network.transport(B) as other, asyncio.TaskGroup() as group:
        for slot in (Slot.CONTROL, Slot.DATA):
            group.create_task(one._dial(Dial(B, other.addresses, slot)))
            await asyncio.sleep(apart_s)
            group.create_task(other._dial(Dial(A, one.addresses, slot)))
        await asyncio.sleep(1)
        for slot in Slot:
            here, there = one.switchboard.connection(B, slot), other.switchboard.connection(A, slot)
            assert here is not None and there is not None
            assert here.is_dialled_here and not there.is_dialled_here, "that of the lower id stays"
        await exchange(one, other)
        await exchange(other, one)
        await asyncio.sleep(RETIRED_S + 1)
        assert len(one._connections) == len(other._connections) == 2


async def test_peer_that_restarts_takes_its_old_streams_with_it_at_once() -> None:
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    async with network.transport(A) as one, network.transport(B) as other:
        await connect(one, other)
        streams = [await one.open(B, header) for header in (HEADER, SMALL)]
        other.kill()
        died_at = loop.time()
        async with network.transport(B, boot=2) as again:
            again.keep(A, one.addresses)
            for stream in streams:
                with pytest.raises(Unreachable):
                    await stream.receive()
            assert loop.time() - died_at <= HIGHER_ID_WAITS_S + 1 < DETECTION_S
            await exchange(again, one)


@pytest.mark.parametrize(("up_s", "is_forgiven"), [(STEADY_AFTER_S - 5, False), (STEADY_AFTER_S + 5, True)])
async def test_minute_up_makes_the_next_dial_as_quick_as_the_first(up_s: float, is_forgiven: bool) -> None:
    """With dice that always fall high; a client dials nobody but by back-off."""
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    async with network.transport(A, Role.CLIENT) as one, network.transport(B) as other:
        one.switchboard._table._uniform = lambda low, high: high
        one.keep(B, other.addresses)
        await asyncio.sleep(1)
        for _ in range(4):
            one.lose(B, "short")
            await asyncio.sleep(3)
        await asyncio.sleep(up_s)
        one.lose(B, "at last")
        broke_at = loop.time()
        while not is_connected(one, other):  # noqa: ASYNC110 - the events are nobody's
            await asyncio.sleep(0.01)
        wanted_s = FIRST_BACKOFF_S if is_forgiven else MAX_HURRIED_WAIT_S
        assert loop.time() - broke_at == pytest.approx(wanted_s, abs=0.02)


async def open_many(one: Transport, other: NodeId, count: int) -> list[Stream]:
    return [await one.open(other, HEADER) for _ in range(count)]


async def test_member_that_floods_makes_nobody_else_busy() -> None:
    network = MemoryNetwork()
    async with network.transport(A) as host, network.transport(B) as greedy, network.transport(C) as modest:
        await connect(host, greedy)
        await connect(host, modest)
        flood = await open_many(greedy, A, MAX_WAITING_STREAMS + 50)
        wanted = await open_many(modest, A, 20)
        await asyncio.sleep(1)
        taken = [await next_stream(host) for _ in range(MAX_WAITING_STREAMS)]
        assert sum(stream.peer.node == C for stream in taken) == len(wanted)
        assert [stream.peer.node for stream in taken[:4]].count(C) == 2, "in turns"
        refused = 0
        for stream in flood:
            with pytest.raises((StreamReset, TimeoutError)) as end:
                async with asyncio.timeout(0.1):
                    await stream.receive()
            refused += isinstance(end.value, StreamReset) and end.value.code == ResetCode.BUSY
        assert refused == 50 + len(wanted)
