"""The wire does to ICMP, UDP, TCP and multicast what it is told: delay, loss, order, cuts, one direction only."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.netns.namespaces import Namespace
from tests.netns.probes import (
    PATIENCE_S,
    multicast_listener,
    ping_s,
    send_multicast,
    tcp_connection,
    tcp_echo,
    tcp_round_trip_s,
    udp_echo,
    udp_round_trips,
)
from tests.netns.tap_bridge import TapBridge
from transport.impairment import CLEAR, Conditions

Wire = tuple[Namespace, Namespace, TapBridge]


async def test_an_unimpaired_wire_carries_everything_whole(wire: Wire) -> None:
    here, there, bridge = wire
    async with udp_echo(there), tcp_echo(there), tcp_connection(here, there) as connected:
        await ping_s(here, there)
        assert len(await udp_round_trips(here, there, 20, PATIENCE_S)) == 20
        await tcp_round_trip_s(connected, os.urandom(1_000_000))
    assert not any(lost.total() for lost in bridge.dropped())


async def test_delay_is_paid_by_icmp_udp_and_tcp_alike(wire: Wire) -> None:
    here, there, bridge = wire
    async with udp_echo(there), tcp_echo(there), tcp_connection(here, there) as connected:
        await ping_s(here, there)  # ARP is done
        bridge.change(there=Conditions(delay_s=0.025), back=Conditions(delay_s=0.015))

        assert await ping_s(here, there) >= 0.04
        assert min(await udp_round_trips(here, there, 5, PATIENCE_S)) >= 0.04
        assert await tcp_round_trip_s(connected) >= 0.04


async def test_loss_takes_its_share_of_udp_and_tcp_still_arrives_whole(wire: Wire) -> None:
    here, there, bridge = wire
    async with udp_echo(there), tcp_echo(there), tcp_connection(here, there) as connected:
        await ping_s(here, there)
        bridge.change(there=Conditions(loss=0.3))

        answered = await udp_round_trips(here, there, 200, 0.5)
        assert 100 < len(answered) < 175
        bridge.change(there=Conditions(loss=0.02))
        await tcp_round_trip_s(connected, os.urandom(200_000))
    assert bridge.dropped()[0]["loss"] > 25


async def test_reordered_packets_arrive_late(wire: Wire) -> None:
    here, there, bridge = wire
    async with udp_echo(there):
        await ping_s(here, there)
        bridge.change(there=Conditions(reorder=0.2, overtaken_s=0.03))

        round_trips = await udp_round_trips(here, there, 100, PATIENCE_S)
        assert len(round_trips) == 100
        assert 5 < sum(round_trip >= 0.03 for round_trip in round_trips) < 100


async def test_a_connection_survives_a_cut_that_is_mended(wire: Wire) -> None:
    here, there, bridge = wire
    async with tcp_echo(there), tcp_connection(here, there) as connected:
        await tcp_round_trip_s(connected)
        bridge.cut()
        async with asyncio.TaskGroup() as group:
            echoed = group.create_task(tcp_round_trip_s(connected, b"through the cut"))
            with pytest.raises(TimeoutError):
                await ping_s(here, there, within_s=0.3)
            assert not echoed.done()
            bridge.mend()
        assert echoed.result() >= 0.3
        await ping_s(here, there)


async def test_one_direction_may_be_cut_alone(wire: Wire) -> None:
    here, there, bridge = wire
    await ping_s(here, there)
    bridge.cut(there=False)
    with multicast_listener(there) as listening:
        send_multicast(here, b"heard, not answered")
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.get_running_loop().sock_recv(listening, 100) == b"heard, not answered"
        with pytest.raises(TimeoutError):
            await ping_s(here, there, within_s=0.2)
    bridge.mend(there=False)
    await ping_s(here, there)


async def test_multicast_crosses_the_wire_both_ways(wire: Wire) -> None:
    here, there, bridge = wire
    bridge.change(Conditions(delay_s=0.02), Conditions(delay_s=0.02))
    for source, target in ((here, there), (there, here)):
        with multicast_listener(target) as listening:
            send_multicast(source, b"who is there?")
            async with asyncio.timeout(PATIENCE_S):
                assert await asyncio.get_running_loop().sock_recv(listening, 100) == b"who is there?"


async def test_what_was_bad_becomes_good_again(wire: Wire) -> None:
    here, there, bridge = wire
    bridge.change(there=Conditions(loss=1.0))
    with pytest.raises(TimeoutError):
        await ping_s(here, there, within_s=0.2)
    bridge.change(there=CLEAR)
    await ping_s(here, there)


async def test_damaged_frames_are_refused_by_checksums(wire: Wire) -> None:
    here, there, bridge = wire
    async with udp_echo(there), tcp_echo(there), tcp_connection(here, there) as connected:
        await ping_s(here, there)
        bridge.change(there=Conditions(corrupt=0.1))

        await tcp_round_trip_s(connected, os.urandom(200_000))
    assert there.count("Tcp", "InCsumErrors") > 0
