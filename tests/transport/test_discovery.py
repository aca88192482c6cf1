"""Nodes find each other through real mDNS on this machine's loopback; what strangers say does no harm."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from transport import discovery
from transport.advertisement import DAY_S, SERVICE, Found, OtherMesh, advertise, day_of, discovery_tag
from transport.discovery import Discovery, look_around
from transport.interface import Address, NodeId

pytestmark = pytest.mark.live

LOOPBACK = ["127.0.0.1"]
PATIENCE_S = 60.0


@pytest.fixture(autouse=True, scope="module")
def multicast_on_loopback() -> None:
    """Skip where the kernel does not hear its own multicast on 127.0.0.1."""
    group, here = socket.inet_aton("224.0.0.251"), socket.inet_aton("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.settimeout(2.0)
        try:
            listening.bind(("", 0))
            listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + here)
            listening.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            listening.sendto(b"?", ("224.0.0.251", listening.getsockname()[1]))
            listening.recv(10)
        except OSError as error:
            pytest.skip(f"no multicast on loopback here: {error}")


@pytest.fixture
def mesh() -> bytes:
    """A mesh of its own for each test: others may be testing on this machine."""
    return secrets.token_bytes(16)


class Seeker:
    """A node that discovers; what it finds is on `found`."""

    def __init__(self, mesh: bytes | None, number: int, clock: Callable[[], float] = time.time) -> None:
        self.node = NodeId(bytes([number]) * 32)
        self.addresses: tuple[Address, ...] = (Address("127.0.0.1", 7000 + number),)
        self.found: asyncio.Queue[Found] = asyncio.Queue()
        self.discovery = Discovery(
            mesh, self.node, lambda: self.addresses, self.found.put_nowait, interfaces=LOOPBACK, clock=clock
        )

    async def next(self) -> Found:
        async with asyncio.timeout(PATIENCE_S):
            return await self.found.get()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Seeker]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.discovery.run())
            try:
                yield self
            finally:
                task.cancel()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the discovery shows but tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_members_find_each_other_and_another_mesh_stays_apart(mesh: bytes) -> None:
    one, two, stranger = Seeker(mesh, 1), Seeker(mesh, 2), Seeker(secrets.token_bytes(16), 3)
    async with one.running(), two.running(), stranger.running():
        assert await one.next() == Found(two.node, two.addresses)
        assert await two.next() == Found(one.node, one.addresses)
        tag = discovery_tag(mesh, day_of(time.time()))
        await until(lambda: any(other.tag == tag for other in stranger.discovery.other_meshes))
        assert one.found.empty() and stranger.found.empty()


async def test_one_who_looks_around_sees_meshes_and_is_not_seen(mesh: bytes) -> None:
    member = Seeker(mesh, 1)
    async with member.running():
        tag = discovery_tag(mesh, day_of(time.time()))
        async with asyncio.timeout(PATIENCE_S):
            while OtherMesh(tag, member.addresses) not in await look_around(1.0, interfaces=LOOPBACK):
                pass
        assert member.found.empty()


async def test_a_node_that_leaves_and_returns_is_found_again(mesh: bytes) -> None:
    one, two = Seeker(mesh, 1), Seeker(mesh, 2)
    async with one.running():
        async with two.running():
            await one.next()
        async with Seeker(mesh, 2).running():
            assert await one.next() == Found(two.node, two.addresses)


async def test_what_left_is_forgotten(mesh: bytes) -> None:
    watcher, member = Seeker(None, 1), Seeker(mesh, 2)
    tag = discovery_tag(mesh, day_of(time.time()))

    def is_listed() -> bool:
        return any(other.tag == tag for other in watcher.discovery.other_meshes)

    async with watcher.running():
        async with member.running():
            await until(is_listed)
        await until(lambda: not is_listed())


async def test_a_node_that_moves_says_so(mesh: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CHECK_S", 0.05)
    one, two = Seeker(mesh, 1), Seeker(mesh, 2)
    async with one.running(), two.running():
        await one.next()
        two.addresses = (Address("127.0.0.1", 7999),)

        assert await one.next() == Found(two.node, two.addresses)


async def test_the_tag_changes_with_the_day(mesh: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CHECK_S", 0.05)
    days = [100.0 * DAY_S]
    member, watcher = Seeker(mesh, 1, clock=lambda: days[0]), Seeker(None, 2)

    def hears(day: int) -> bool:
        return any(other.tag == discovery_tag(mesh, day) for other in watcher.discovery.other_meshes)

    async with member.running(), watcher.running():
        await until(lambda: hears(100))
        days[0] += DAY_S
        await until(lambda: hears(101) and not hears(100))


async def test_a_node_without_addresses_listens_only(mesh: bytes) -> None:
    one, two = Seeker(mesh, 1), Seeker(mesh, 2)
    one.addresses = ()
    async with two.running(), one.running():
        assert await one.next() == Found(two.node, two.addresses)
        assert two.found.empty()


async def test_spoofed_words_find_nobody_and_hide_nobody(mesh: bytes) -> None:
    today, port = day_of(time.time()), 7666
    copied = advertise(mesh, NodeId(b"x" * 32), port + 1, today)  # sealed for another port
    spoofs: list[dict[str, bytes]] = [
        {},
        {"v": b"1"},
        {"v": b"1", "mesh": b"!" * 22, "node": b""},
        {"v": b"1", "mesh": copied["mesh"], "node": secrets.token_bytes(64)},
        copied,
        {**advertise(mesh, NodeId(b"x" * 32), port, today), **{f"pad{n}": b"p" * 200 for n in range(5)}},
    ]
    one, two = Seeker(mesh, 1), Seeker(mesh, 2)
    async with advertised(port, spoofs), one.running():
        await until(lambda: len(one.discovery._names) >= len(spoofs) and all(one.discovery._names.values()))
        async with two.running():
            assert await one.next() == Found(two.node, two.addresses)
        assert one.found.empty()
        assert one.discovery.problem == ""


@contextlib.asynccontextmanager
async def advertised(port: int, texts: list[dict[str, bytes]]) -> AsyncIterator[None]:
    """A host on which somebody advertises what he likes."""
    async with AsyncZeroconf(interfaces=LOOPBACK) as zeroconf:
        announcements: list[Awaitable[None]] = []
        for text in texts:
            name = f"{secrets.token_hex(8)}.{SERVICE}"
            info = AsyncServiceInfo(SERVICE, name, port, properties=text, parsed_addresses=LOOPBACK)
            announcements.append(await zeroconf.async_register_service(info, cooperating_responders=True))
        await asyncio.gather(*announcements)
        yield


async def test_a_flood_of_names_is_bounded(mesh: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_NAMES", 4)
    one, two = Seeker(mesh, 1), Seeker(mesh, 2)
    async with one.running(), advertised(7666, [{} for _ in range(10)]), two.running():
        await one.next()
        assert len(one.discovery._names) <= 4


async def test_where_there_is_no_multicast_the_problem_is_told_and_nothing_breaks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "RETRY_S", 0.05)
    seeker = Seeker(b"m" * 16, 1)
    seeker.discovery._interfaces[:] = ["203.0.113.9"]  # nobody's, RFC 5737
    async with seeker.running():
        await until(lambda: seeker.discovery.problem != "")
        await asyncio.sleep(0.2)
    assert "mDNS does not work here" in seeker.discovery.problem
    assert [record.levelname for record in caplog.records if record.name == "meshd.transport"] == ["WARNING"]


async def test_cancelling_leaves_no_task_behind(mesh: bytes) -> None:
    before = asyncio.all_tasks()
    one, two = Seeker(mesh, 1), Seeker(mesh, 2)
    async with one.running(), two.running():
        await one.next()
    assert asyncio.all_tasks() == before
