"""Clocks are compared over the mesh's own streams, and doctor says whose is off and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gossip.view import View
from meshd.clocks import PROTOCOL, Clocks
from meshd.dispatch import Dispatch
from meshd.doctor import Check
from meshd.doctor_mesh import PeerClock, judge_clocks
from tests.meshd.test_status import node
from transport.errors import StreamReset
from transport.interface import NodeId, Record, RecordKind, Role, StreamHeader
from transport.memory import MemoryNetwork, MemoryTransport
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

ME = NodeId(b"m" * 32)
DELAY_S = 0.2


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def clock(transport: MemoryTransport, offset_s: float, *others: tuple[str, Role]) -> Clocks:
    """A clock that is so far ahead of the loop's. others: name, and so id, and role."""
    peers = [node(NodeId(name[:1].encode() * 32), name, role) for name, role in others]
    view = View(1, (node(transport.node, "me"), *peers))
    return Clocks(transport, lambda: view, lambda: 1_790_000_000 + loop_time() + offset_s, loop_time)


@asynccontextmanager
async def hosts(**offsets_s: float) -> AsyncIterator[tuple[MemoryNetwork, Clocks]]:
    """This node's clock, in a mesh of members with clocks that are so far ahead of it."""
    network = MemoryNetwork(delay_s=DELAY_S)
    mine = network.transport(ME)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        await stack.enter_async_context(mine)
        tasks = []
        for name, offset_s in offsets_s.items():
            theirs = await stack.enter_async_context(network.transport(NodeId(name[:1].encode() * 32)))
            services = {PROTOCOL: clock(theirs, offset_s).serve}
            tasks.append(group.create_task(Dispatch(services).run(theirs)))
            mine.keep(theirs.node, theirs.addresses)
        await asyncio.sleep(10)
        yield network, clock(mine, 0.0, *((name, Role.MEMBER) for name in offsets_s), ("laptop", Role.CLIENT))
        for task in tasks:
            task.cancel()


async def judged(mine: Clocks) -> Check:
    told = (await mine.table()["clocks"]({}))["clocks"]
    return judge_clocks([PeerClock(one["name"], one["ahead_s"], one["within_s"]) for one in told])


async def test_offsets_are_measured_in_spite_of_the_way() -> None:
    async with hosts(anna=300.0, bert=-0.5) as (_, mine):
        told = (await mine.table()["clocks"]({}))["clocks"]

    assert [(one["name"], one["ahead_s"]) for one in told] == [
        ("anna", pytest.approx(300, abs=DELAY_S)),
        ("bert", pytest.approx(-0.5, abs=DELAY_S)),
    ]
    assert all(DELAY_S <= one["within_s"] < 4 * DELAY_S for one in told)


async def test_this_hosts_clock_is_off_where_all_others_say_so() -> None:
    async with hosts(anna=300.0, bert=301.0, carl=299.5) as (_, mine):
        check = await judged(mine)

    assert not check.ok
    assert "anna 300 s ahead" in check.detail
    assert check.fix == "sudo timedatectl set-ntp true"


async def test_the_one_whose_clock_is_off_is_named() -> None:
    async with hosts(anna=0.1, bert=-4000.0, carl=0.0) as (_, mine):
        check = await judged(mine)

    assert (check.ok, check.fix) == (False, "on bert: sudo timedatectl set-ntp true")
    assert "bert 4000 s behind" in check.detail


async def test_of_two_nobody_knows_whose_it_is() -> None:
    async with hosts(anna=90.0) as (_, mine):
        check = await judged(mine)

    assert (check.ok, check.fix) == (False, "on this host and on anna: sudo timedatectl set-ntp true")


async def test_clocks_that_agree_are_well_and_so_is_who_is_alone() -> None:
    async with hosts(anna=2.0, bert=-59.0) as (_, mine):
        assert await judged(mine) == Check("clocks", True, "within 60 s of 2 other nodes'")
    async with hosts() as (_, mine):
        assert (await judged(mine)).ok


async def test_who_does_not_answer_is_left_out() -> None:
    async with hosts(anna=1.0, bert=300.0) as (network, mine):
        network.cut(ME, NodeId(b"b" * 32))
        assert await judged(mine) == Check("clocks", True, "within 60 s of 1 other nodes'")


async def test_anything_but_a_time_is_an_offence() -> None:
    async with hosts(anna=0.0) as (_, mine):
        assert isinstance(mine.transport, MemoryTransport)
        stream = await mine.transport.open(NodeId(b"a" * 32), StreamHeader(PROTOCOL, "", 5000))
        await stream.send(Record(RecordKind.MESSAGE, b"\x81\xa6unix_s\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"))
        await stream.finish()
        with pytest.raises(StreamReset):
            await stream.receive()


def test_a_long_way_is_no_wrong_clock() -> None:
    assert not PeerClock("far", 65.0, 6.0).is_apart
    assert PeerClock("near", 65.0, 0.1).is_apart
