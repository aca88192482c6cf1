"""The relay between real UDP sockets on loopback: bytes, clients, conditions at run time, cuts."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import uvloop

from transport.errors import Unreachable
from transport.impairment import CLEAR, Conditions, Rate
from transport.interface import Address
from transport.relay import MAX_WAITING_PACKETS, DelayLine, UdpRelay
from transport.virtual_time import run

pytestmark = pytest.mark.live

# uvloop's timers do not say when they are due, and count in milliseconds.
loop_factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

GRAIN_S = 0.002
PATIENCE_S = 60.0


class Endpoint(asyncio.DatagramProtocol):
    """A UDP socket that keeps what came; `is_echo` sends it back."""

    def __init__(self, is_echo: bool) -> None:
        self.is_echo = is_echo
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.sources: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: Any) -> None:
        self.received.put_nowait(data)
        if source not in self.sources:
            self.sources.append(source)
        if self.is_echo:
            self.transport.sendto(data, source)

    @property
    def address(self) -> Address:
        host, port = self.transport.get_extra_info("sockname")[:2]
        return Address(host, port)

    def send(self, target: Address, *packets: bytes) -> None:
        for packet in packets:
            self.transport.sendto(packet, (target.host, target.port))

    async def next(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.received.get()


class Endpoints:
    """Opens endpoints that close with the test."""

    def __init__(self) -> None:
        self.opened: list[Endpoint] = []

    async def open(self, *, is_echo: bool = False, host: str = "127.0.0.1") -> Endpoint:
        loop = asyncio.get_running_loop()
        _, endpoint = await loop.create_datagram_endpoint(lambda: Endpoint(is_echo), local_addr=(host, 0))
        self.opened.append(endpoint)
        return endpoint


@pytest.fixture
async def endpoints() -> AsyncIterator[Endpoints]:
    endpoints = Endpoints()
    yield endpoints
    for endpoint in endpoints.opened:
        endpoint.transport.close()


@pytest.fixture
async def echo(endpoints: Endpoints) -> Endpoint:
    return await endpoints.open(is_echo=True)


@pytest.fixture
async def client(endpoints: Endpoints) -> Endpoint:
    return await endpoints.open()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the relay counts; it tells nobody when it counts."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def round_trip_s(client: Endpoint, relay: UdpRelay) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    client.send(relay.address, b"?")
    assert await client.next() == b"?"
    return loop.time() - started


async def test_packets_of_every_size_pass_both_ways_unchanged(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address) as relay:
        packets = [b"x", b"y" * 1200, b"z" * 9000]
        for packet in packets:
            client.send(relay.address, packet)
            assert await client.next() == packet
        assert (relay.there.impairment.passed, relay.back.impairment.passed) == (3, 3)


async def test_answers_reach_the_client_that_asked(echo: Endpoint, endpoints: Endpoints) -> None:
    clients = [await endpoints.open() for _ in range(5)]
    async with UdpRelay(echo.address) as relay:
        for number, client in enumerate(clients):
            client.send(relay.address, b"%d" % number)

        assert [await client.next() for client in clients] == [b"0", b"1", b"2", b"3", b"4"]
        assert len(echo.sources) == relay.clients == 5


async def test_delay_is_paid_in_each_direction(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address, Conditions(delay_s=0.02), Conditions(delay_s=0.03)) as relay:
        assert await round_trip_s(client, relay) >= 0.05 - GRAIN_S


async def test_equal_delay_keeps_the_order(echo: Endpoint, client: Endpoint) -> None:
    packets = [b"%d" % number for number in range(200)]
    async with UdpRelay(echo.address, Conditions(delay_s=0.01), Conditions(delay_s=0.01, jitter_s=0.01)) as relay:
        client.send(relay.address, *packets)

        assert [await client.next() for _ in packets] == packets


async def test_what_comes_out_is_what_the_decider_let_through(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address, Conditions(loss=0.3, duplicate=0.3), seed=7) as relay:
        for number in range(100):
            client.send(relay.address, b"%d" % number)
            if number % 20 == 19:
                await asyncio.sleep(0)  # let the sockets' buffers be read

        there = relay.there.impairment
        await until(lambda: there.passed + there.dropped["loss"] >= 100)
        arrived = [await client.next() for _ in range(relay.there.impairment.passed)]
        assert 50 < there.passed < 90
        assert len(set(arrived)) < len(arrived), "nothing came twice"


async def test_a_damaged_packet_differs_in_one_bit(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address, Conditions(corrupt=1.0)) as relay:
        client.send(relay.address, bytes(100))

        assert int.from_bytes(await client.next(), "big").bit_count() == 1


async def test_a_cut_loses_what_is_under_way_and_mending_lets_new_packets_through(
    echo: Endpoint, client: Endpoint
) -> None:
    async with UdpRelay(echo.address, Conditions(delay_s=0.05)) as relay:
        client.send(relay.address, b"under way")
        await until(lambda: relay.there.impairment.passed > 0)
        relay.cut()
        client.send(relay.address, b"against the cut")
        await until(lambda: relay.there.impairment.dropped["cut"] >= 2)
        relay.mend()
        client.send(relay.address, b"after")

        assert await client.next() == b"after"
        assert echo.received.qsize() == 1


async def test_one_way_cut_lets_the_other_way_live(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address) as relay:
        relay.back.cut()
        client.send(relay.address, b"heard")
        assert await echo.next() == b"heard"
        await until(lambda: relay.back.impairment.dropped["cut"] > 0)
        relay.back.mend()
        client.send(relay.address, b"answered")

        assert await client.next() == b"answered"


async def test_conditions_change_at_run_time(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address) as relay:
        client.send(relay.address, b"fast")
        assert await client.next() == b"fast"
        relay.there.change(Conditions(delay_s=0.05))

        assert await round_trip_s(client, relay) >= 0.05 - GRAIN_S


async def test_a_rate_spreads_packets_over_time(echo: Endpoint, client: Endpoint) -> None:
    slow = Conditions(rate=Rate(bytes_per_s=100_000, burst_bytes=1000, queue_bytes=100_000))
    async with UdpRelay(echo.address, slow) as relay:
        started = time.monotonic()
        client.send(relay.address, *[bytes(1000)] * 11)
        for _ in range(11):
            await client.next()

        assert time.monotonic() - started >= 0.1 - GRAIN_S  # 10 kB beyond the bucket at 100 kB/s


async def test_the_client_idle_longest_makes_room(echo: Endpoint, endpoints: Endpoints) -> None:
    first, second, third = [await endpoints.open() for _ in range(3)]
    async with UdpRelay(echo.address, max_clients=2) as relay:
        for client in (first, second, first, third):
            await round_trip_s(client, relay)

        assert (relay.clients, relay.counters["evicted"]) == (2, 1)
        assert len(echo.sources) == 3
        await round_trip_s(first, relay)
        assert len(echo.sources) == 3, "the first client was used last but one and kept its way"


async def test_rebinding_shows_upstream_a_new_port_and_answers_still_arrive(echo: Endpoint, client: Endpoint) -> None:
    async with UdpRelay(echo.address) as relay:
        await round_trip_s(client, relay)
        relay.rebind()
        await round_trip_s(client, relay)

        assert len(echo.sources) == 2


async def test_a_dead_upstream_hurts_nobody_and_may_come_back(client: Endpoint, endpoints: Endpoints) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    async with UdpRelay(Address("127.0.0.1", port)) as relay:
        for _ in range(5):
            client.send(relay.address, b"anyone?")
            await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        _, late = await loop.create_datagram_endpoint(lambda: Endpoint(True), local_addr=("127.0.0.1", port))
        endpoints.opened.append(late)
        await asyncio.sleep(0.01)
        client.send(relay.address, b"now", b"now")

        assert await client.next() == b"now"


async def test_ipv6_upstream(endpoints: Endpoints) -> None:
    try:
        echo = await endpoints.open(is_echo=True, host="::1")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    client = await endpoints.open(host="::1")
    async with UdpRelay(echo.address) as relay:
        client.send(relay.address, b"six")

        assert await client.next() == b"six"


async def test_an_unknown_upstream_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid:1"):
        async with UdpRelay(Address("no-such-host.invalid", 1)):
            pass


async def test_leaving_closes_every_socket_and_timer(echo: Endpoint, client: Endpoint) -> None:
    relay = UdpRelay(echo.address, Conditions(delay_s=0.02))
    async with relay:
        await round_trip_s(client, relay)
        address = relay.address
        client.send(address, b"never arrives")
        await until(lambda: relay.there.impairment.passed >= 2)
    assert relay.clients == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind((address.host, address.port))


def test_a_full_delay_line_loses_the_newest() -> None:
    async def scenario() -> tuple[int, int]:
        arrived: list[bytes] = []
        line = DelayLine(Conditions(delay_s=1.0), random.Random(0))
        for _ in range(MAX_WAITING_PACKETS + 5):
            line.carry(b"x", arrived.append)
        await asyncio.sleep(2.0)
        return len(arrived), line.impairment.dropped["overflow"]

    assert run(scenario()) == (MAX_WAITING_PACKETS, 5)


def test_a_delay_line_is_exact_in_virtual_time() -> None:
    async def scenario() -> list[tuple[float, bytes]]:
        loop = asyncio.get_running_loop()
        arrived: list[tuple[float, bytes]] = []
        line = DelayLine(CLEAR, random.Random(0))
        for packet, conditions in [(b"slow", Conditions(delay_s=3.0)), (b"next", Conditions(delay_s=1.0))]:
            line.change(conditions)
            line.carry(packet, lambda data: arrived.append((loop.time(), data)))
        await asyncio.sleep(4.0)
        return arrived

    assert run(scenario()) == [(3.0, b"slow"), (3.0, b"next")]


def test_a_packet_that_is_due_earlier_does_not_wait_for_one_that_entered_before() -> None:
    async def scenario() -> list[tuple[float, bytes]]:
        loop = asyncio.get_running_loop()
        arrived: list[tuple[float, bytes]] = []
        line = DelayLine(Conditions(reorder=1.0, overtaken_s=3.0), random.Random(0))
        line.carry(b"overtaken", lambda data: arrived.append((loop.time(), data)))
        line.change(Conditions(delay_s=1.0))
        line.carry(b"next", lambda data: arrived.append((loop.time(), data)))
        await asyncio.sleep(4.0)
        return arrived

    assert run(scenario()) == [(1.0, b"next"), (3.0, b"overtaken")]
