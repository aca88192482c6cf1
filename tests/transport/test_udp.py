"""The UDP socket moves the same datagrams with and without the kernel's segmentation."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.interface import Address
from transport.quic.bounces import MAX_BOUNCES
from transport.quic.local_addresses import reachable_addresses
from transport.quic.udp import MAX_UDP_BYTES, SocketAddress, UdpSocket, _runs, to_address

pytestmark = pytest.mark.live

LOOPBACK = Address("127.0.0.1", 0)
HERE: SocketAddress = ("192.0.2.1", 1)
THERE: SocketAddress = ("192.0.2.2", 1)


async def collect(udp: UdpSocket, count: int) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(60):
        while len(got) < count:
            got += [data for data, _ in udp.receive()]
            await asyncio.sleep(0)
    return got


@pytest.mark.parametrize("segments", [True, False])
async def test_mixed_sizes_arrive_whole_and_in_order(segments: bool) -> None:
    sender, receiver = UdpSocket(LOOPBACK), UdpSocket(LOOPBACK)
    sender._segments_out = sender._segments_out and segments
    target = ("127.0.0.1", receiver.port)
    sizes = [1452] * 50 + [700] + [1200] * 3 + [1, 1452, 1452, 64, 64, 64, 2000]
    sent = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    assert sender.send([(data, target) for data in sent]) == len(sent)
    assert await collect(receiver, len(sent)) == sent
    assert list(receiver.receive()) == []
    sender.close()
    receiver.close()


async def test_datagram_that_cannot_go_does_not_stop_the_others() -> None:
    sender, receiver = UdpSocket(LOOPBACK), UdpSocket(LOOPBACK)
    target = ("127.0.0.1", receiver.port)
    packets: list[tuple[bytes, SocketAddress]] = [
        (b"one", target),
        (bytes(MAX_UDP_BYTES + 10), target),
        (b"two", target),
    ]
    assert sender.send(packets) == 3
    assert await collect(receiver, 2) == [b"one", b"two"]
    sender.close()
    receiver.close()


def ask(target: tuple[str, int]) -> socket.socket:
    """A socket that takes answers from `target` only, and has asked."""
    asking = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM)
    asking.setblocking(False)
    asking.connect(target)
    asking.send(b"?")
    return asking


async def answered(udp: UdpSocket, asking: socket.socket, runs: int = 1) -> bytes:
    async with asyncio.timeout(60):
        while not (questions := list(udp.receive())):  # noqa: ASYNC110 - the socket is read by hand
            await asyncio.sleep(0)
        udp.send([(data, address) for data, address in questions for _ in range(runs)])
        return await asyncio.get_running_loop().sock_recv(asking, 100)


@pytest.mark.parametrize("runs", [1, 5])
@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.3.2.1"])
async def test_answers_leave_from_where_they_were_asked_for(bind: str, host: str, runs: int) -> None:
    udp = UdpSocket(Address(bind, 0))
    with ask((host, udp.port)) as asking:
        assert await answered(udp, asking, runs) == b"?"
    udp.close()


async def test_address_that_this_host_no_longer_has_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    udp = UdpSocket(Address("0.0.0.0", 0))
    gone = b"\0\0\0\0" + socket.inet_aton("192.0.2.77") + b"\0\0\0\0"
    monkeypatch.setattr("transport.quic.udp._answering", lambda info: gone)
    with ask(("127.0.0.1", udp.port)) as asking:
        assert await answered(udp, asking) == b"?"
    assert not udp._asked_at
    udp.close()


async def test_memory_of_who_asked_where_is_bounded() -> None:
    udp = UdpSocket(Address("0.0.0.0", 0))
    for number in range(3000):
        udp._remember(("192.0.2.1", number), b"here")
    assert len(udp._asked_at) == 1024 and ("192.0.2.1", 2999) in udp._asked_at
    udp.forget(("192.0.2.1", 2999))
    assert ("192.0.2.1", 2999) not in udp._asked_at
    udp.close()


@given(st.lists(st.tuples(st.sampled_from([1, 64, 1200, 1452, 9000]), st.sampled_from([HERE, THERE])), max_size=200))
def test_runs_are_what_one_segmented_send_can_carry(shapes: list[tuple[int, SocketAddress]]) -> None:
    datagrams = [(bytes(size), address) for size, address in shapes]
    start = 0
    for count in _runs(datagrams):
        run = datagrams[start : start + count]
        sizes = [len(data) for data, _ in run]
        assert len({address for _, address in run}) == 1
        assert all(size == sizes[0] for size in sizes[:-1]) and sizes[-1] <= sizes[0]
        assert sum(sizes) <= MAX_UDP_BYTES and count <= 64
        start += count
    assert start == len(datagrams)


def test_mapped_addresses_are_shown_as_people_know_them() -> None:
    assert to_address(("::ffff:192.0.2.1", 7842, 0, 0)) == Address("192.0.2.1", 7842)
    assert to_address(("2001:db8::1", 7842, 0, 0)) == Address("2001:db8::1", 7842)


def test_kernel_without_ipv6_serves_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    udp = UdpSocket(Address("::", 0))
    assert udp.family == socket.AF_INET and not udp.is_dual_stack
    udp.close()


def test_reachable_addresses_end_with_loopback() -> None:
    addresses = reachable_addresses("::", 7842, has_ipv6=True)
    assert Address("127.0.0.1", 7842) in addresses
    assert addresses[-1].host.startswith("127.") or len(addresses) == 1
    assert reachable_addresses("192.0.2.1", 7842, has_ipv6=True) == (Address("192.0.2.1", 7842),)


def closed_port() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        where: tuple[str, int] = closed.getsockname()
    return where


async def test_datagrams_that_met_a_closed_port_come_back_and_stop_no_others() -> None:
    sender, receiver = UdpSocket(LOOPBACK), UdpSocket(LOOPBACK)
    gone, there = closed_port(), ("127.0.0.1", receiver.port)
    for number in range(20):
        assert sender.send([(b"lost %d" % number, gone), (b"kept %d" % number, there)]) == 2
        await asyncio.sleep(0)
    assert await collect(receiver, 20) == [b"kept %d" % number for number in range(20)]
    assert sender.has_bounced
    bounced = sender.take_bounced()
    assert bounced and {address for _, address in bounced} == {gone}
    assert all(data.startswith(b"lost ") for data, _ in bounced)
    assert sender.take_bounced() == []
    sender.close()
    receiver.close()


async def test_a_socket_hears_on_after_a_datagram_bounced() -> None:
    udp, other = UdpSocket(LOOPBACK), UdpSocket(LOOPBACK)
    got: list[bytes] = []
    udp.watch_readable(asyncio.get_running_loop(), lambda: got.extend(data for data, _ in udp.receive()))
    udp.send([(b"lost", closed_port())])
    await asyncio.sleep(0.05)  # the bounce arrives whenever the kernel likes, and must not be awaited here
    other.send([(b"hello", ("127.0.0.1", udp.port))])
    async with asyncio.timeout(60):
        while not got:  # noqa: ASYNC110 - the loop fills it
            await asyncio.sleep(0.01)
    assert got == [b"hello"]
    udp.close(asyncio.get_running_loop())
    other.close()


async def test_bounces_that_nobody_takes_are_bounded() -> None:
    sender = UdpSocket(LOOPBACK)
    gone = closed_port()
    for _ in range(10 * MAX_BOUNCES):
        sender.send([(b"lost", gone)])
    list(sender.receive())
    assert 0 < len(sender.take_bounced()) <= MAX_BOUNCES
    sender.close()
