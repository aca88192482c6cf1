"""What the tests send between hosts: ICMP echo, UDP and TCP echo, multicast. One loop, sockets of many hosts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator

from tests.netns.namespaces import Namespace

MDNS_GROUP = ("224.0.0.251", 5353)
PATIENCE_S = 60.0


async def ping_s(here: Namespace, there: Namespace, *, within_s: float = PATIENCE_S) -> float:
    """One ICMP echo (RFC 792); its round trip. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    with here.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        question = _echo_request(identifier=id(raw) & 0xFFFF)
        started = time.perf_counter()
        await loop.sock_sendto(raw, question, (there.host, 0))
        async with asyncio.timeout(within_s):
            while True:
                packet = await loop.sock_recv(raw, 1500)
                answer = packet[4 * (packet[0] & 15) :]
                if answer[0] == 0 and answer[4:] == question[4:]:
                    return time.perf_counter() - started


def _echo_request(identifier: int) -> bytes:
    payload = time.perf_counter_ns().to_bytes(8, "big")
    unsummed = struct.pack("!BBHHH", 8, 0, 0, identifier, 1) + payload
    total = sum(struct.unpack(f"!{len(unsummed) // 2}H", unsummed))
    total = (total & 0xFFFF) + (total >> 16)
    return unsummed[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + unsummed[4:]


@contextlib.asynccontextmanager
async def udp_echo(on: Namespace, port: int = 7000) -> AsyncIterator[None]:
    """Answer every UDP packet to `port` with itself."""
    loop = asyncio.get_running_loop()
    with on.socket(socket.SOCK_DGRAM) as listening:
        listening.bind((on.host, port))

        def answer() -> None:
            packet, source = listening.recvfrom(2048)
            listening.sendto(packet, source)

        loop.add_reader(listening, answer)
        try:
            yield
        finally:
            loop.remove_reader(listening)


async def udp_round_trips(here: Namespace, there: Namespace, packets: int, patience_s: float) -> list[float]:
    """Round trips of those of `packets` UDP packets, sent 2 ms apart, whose echo came within `patience_s` of the last.

    In the order of arrival; the numbers in the packets find each one's start.
    """
    loop = asyncio.get_running_loop()
    sent: list[float] = []
    round_trips: list[float] = []
    with here.socket(socket.SOCK_DGRAM) as asking:
        asking.connect((there.host, 7000))

        def arrived() -> None:
            number = int(asking.recv(2048))
            round_trips.append(loop.time() - sent[number])

        loop.add_reader(asking, arrived)
        try:
            for number in range(packets):
                sent.append(loop.time())
                asking.send(b"%d" % number)
                await asyncio.sleep(0.002)
            deadline = loop.time() + patience_s
            while len(round_trips) < packets and loop.time() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            loop.remove_reader(asking)
    return round_trips


@contextlib.asynccontextmanager
async def tcp_echo(on: Namespace, port: int = 7001) -> AsyncIterator[None]:
    """Answer what comes over TCP with the same."""
    with on.socket(socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((on.host, port))
        listening.listen()
        async with asyncio.TaskGroup() as group:
            server = group.create_task(_accept(listening), name="tcp echo")
            try:
                yield
            finally:
                server.cancel()


async def _accept(listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            accepted, _ = await loop.sock_accept(listening)
            group.create_task(_echo(accepted), name="tcp echo of one connection")


async def _echo(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with accepted, contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(accepted, 65_536):
            await loop.sock_sendall(accepted, data)


@contextlib.asynccontextmanager
async def tcp_connection(here: Namespace, there: Namespace, port: int = 7001) -> AsyncIterator[socket.socket]:
    """A TCP connection from one host to another, without Nagle's delay."""
    with here.socket(socket.SOCK_STREAM) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(connected, (there.host, port))
        yield connected


async def tcp_round_trip_s(connected: socket.socket, payload: bytes = b"?") -> float:
    """Send `payload`, read its echo whole, and say how long that took."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    echoed = bytearray()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(loop.sock_sendall(connected, payload), name="send")
        while len(echoed) < len(payload):
            data = await loop.sock_recv(connected, 65_536)
            assert data, "the connection ended early"
            echoed += data
    assert echoed == payload
    return time.perf_counter() - started


def multicast_listener(on: Namespace) -> socket.socket:
    """A socket that hears what is sent to mDNS' group and port on this host's segment."""
    listening = on.socket(socket.SOCK_DGRAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("", MDNS_GROUP[1]))
    membership = socket.inet_aton(MDNS_GROUP[0]) + socket.inet_aton(on.host)
    with on.entered():
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return listening


def send_multicast(source: Namespace, payload: bytes) -> None:
    """Send one packet to mDNS' group."""
    with source.socket(socket.SOCK_DGRAM) as sending:
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source.host))
        sending.sendto(payload, MDNS_GROUP)
