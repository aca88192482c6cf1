"""Blobs between nodes over the memory transport: got, put, resumed, refused when they are not what they should be."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from transport.blob_disk import StoreFailed
from transport.blob_message import (
    PIECE_BYTES,
    PROTOCOL,
    BlobDigest,
    Found,
    Get,
    Put,
    Wanted,
    read_found,
    read_wanted,
    to_record,
)
from transport.blob_store import BlobStore, CorruptBlob, NoRoom, digest_of
from transport.blobs import MAX_PER_PEER, Blobs, NoSuchBlob
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, Unreachable
from transport.interface import LinkState, NodeId, Record, RecordKind, Stream, StreamHeader
from transport.memory import MemoryNetwork, MemoryTransport

QUOTA = 64 << 20
WAIT_S = 60.0
DATA = random.Random(1).randbytes(8 * PIECE_BYTES + 777)
DIGEST = digest_of(DATA)

Serve = Callable[[Stream], Awaitable[None]]


@dataclass
class Node:
    """errors: what its service raised.  asked: streams it was asked on.  given: bytes of blobs it sent."""

    transport: MemoryTransport
    store: BlobStore
    directory: Path
    blobs: Blobs
    serve: Serve
    errors: list[MeshError] = field(default_factory=list)
    asked: int = 0
    given: Counter[str] = field(default_factory=Counter)

    @property
    def node(self) -> NodeId:
        return self.transport.node

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for stream in self.transport.streams():
                self.asked += 1
                group.create_task(self._fenced(stream))

    async def _fenced(self, stream: Stream) -> None:
        """As `meshd.dispatch` does."""
        try:
            await self.serve(_Counted(stream, self.given))
        except ProtocolError as error:
            self.errors.append(error)
            stream.reset(ResetCode.PROTOCOL_ERROR)
        except MeshError as error:
            self.errors.append(error)
            stream.reset(ResetCode.CANCELLED)


class _Counted:
    """A stream that counts the bytes sent on it. Implements `interface.Stream`."""

    def __init__(self, stream: Stream, given: Counter[str]) -> None:
        self._stream = stream
        self._given = given
        self.peer, self.header = stream.peer, stream.header
        self.receive, self.finish, self.reset = stream.receive, stream.finish, stream.reset

    async def send(self, record: Record) -> None:
        if record.kind is RecordKind.DATA:
            self._given["bytes"] += len(record.payload)
        await self._stream.send(record)


@asynccontextmanager
async def mesh_of(count: int, root: Path, quota: int = QUOTA) -> AsyncIterator[list[Node]]:
    network = MemoryNetwork(1)
    async with AsyncExitStack() as stack:
        nodes = [await entered(stack, network, number, root, quota) for number in range(count)]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        serving = [group.create_task(node.run()) for node in nodes]
        for node in nodes:
            for other in nodes:
                node.transport.keep(other.node, other.transport.addresses)
        async with asyncio.timeout(WAIT_S):
            for node in nodes:
                while sum(link.state is LinkState.CONNECTED for link in node.transport.links()) < count - 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        try:
            yield nodes
        finally:
            for task in serving:
                task.cancel()


async def entered(stack: AsyncExitStack, network: MemoryNetwork, number: int, root: Path, quota: int) -> Node:
    transport = await stack.enter_async_context(network.transport(NodeId(bytes([number + 1]) * 32)))
    directory = root / str(number)
    store = BlobStore(directory, quota)
    blobs = await stack.enter_async_context(Blobs(transport, store))
    return Node(transport, store, directory, blobs, blobs.serve)


def files(node: Node) -> set[str]:
    return {str(path.relative_to(node.directory)) for path in node.directory.rglob("*") if path.is_file()}


class TidiedStore(BlobStore):
    """Somebody removes every blob as soon as it is here."""

    def path(self, digest: BlobDigest) -> Path | None:
        self.remove(digest)
        return super().path(digest)


# Getting


async def test_a_blob_that_is_removed_as_it_arrives_is_an_error_of_the_store(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        async with Blobs(one.transport, TidiedStore(tmp_path / "tidied", QUOTA)) as blobs:
            with pytest.raises(StoreFailed, match="taken away"):
                await blobs.fetch(DIGEST, [other.node])


async def test_blob_is_fetched_whole_and_told_as_it_grows(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        told: list[tuple[int, int]] = []
        path = await one.blobs.fetch(DIGEST, [other.node], lambda *grown: told.append(grown))
        assert path.read_bytes() == DATA
        assert files(one) == {DIGEST.hex()}
        assert told == sorted(told) and told[-1] == (len(DATA), len(DATA)) and len(told) == 9
        assert await one.blobs.fetch(DIGEST, []) == path  # it is here: nobody is asked


@pytest.mark.parametrize("data", [b"", b"x", bytes(PIECE_BYTES), bytes(PIECE_BYTES + 1)])
async def test_every_size_passes(tmp_path: Path, data: bytes) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        digest = other.store.add(data)
        assert (await one.blobs.fetch(digest, [other.node])).read_bytes() == data
        other.store.remove(digest)
        await one.blobs.push(other.node, digest)
        path = other.store.path(digest)
        assert path is not None and path.read_bytes() == data


async def test_source_that_does_not_have_it_is_passed_over(tmp_path: Path) -> None:
    async with mesh_of(3, tmp_path) as (one, poor, rich):
        rich.store.add(DATA)
        with pytest.raises(NoSuchBlob):
            await one.blobs.fetch(DIGEST, [poor.node])
        assert (await one.blobs.fetch(DIGEST, [poor.node, rich.node])).read_bytes() == DATA


async def test_nobody_to_ask_is_unreachable(tmp_path: Path) -> None:
    async with mesh_of(1, tmp_path) as (one,):
        with pytest.raises(Unreachable):
            await one.blobs.fetch(DIGEST, [])
        assert files(one) == set()


async def test_gets_of_one_blob_at_once_pull_once(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        told: Counter[int] = Counter()

        def listener(number: int) -> Callable[[int, int], None]:
            return lambda done_bytes, size: told.update({number: 1})

        async with asyncio.timeout(WAIT_S):
            paths = await asyncio.gather(
                *(one.blobs.fetch(DIGEST, [other.node], listener(number)) for number in range(8))
            )
        assert len(set(paths)) == 1
        assert other.asked == 1 and other.given["bytes"] == len(DATA)
        assert len(told) == 8


async def test_pull_goes_on_while_one_still_waits_and_ends_with_the_last(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        held = Held(other)
        async with asyncio.TaskGroup() as group:
            first, second = (group.create_task(one.blobs.fetch(DIGEST, [other.node])) for _ in range(2))
            await held.after(3)
            first.cancel()
            held.go_on()
            assert (await second).read_bytes() == DATA
        one.store.remove(DIGEST)
        held = Held(other)
        async with asyncio.TaskGroup() as group:
            lonely = group.create_task(one.blobs.fetch(DIGEST, [other.node]))
            await held.after(3)
            lonely.cancel()
        held.go_on()
        async with asyncio.timeout(WAIT_S):
            while not other.errors:  # noqa: ASYNC110 - the reset has to cross
                await asyncio.sleep(0.01)
        assert isinstance(other.errors[0], StreamReset)


class Held:
    """Makes a node's service stop after some records, until told to go on."""

    def __init__(self, node: Node) -> None:
        self._serve = node.blobs.serve
        self._going = asyncio.Event()
        self._sent = asyncio.Event()
        self._count = 0
        self._stop_after = 1 << 30
        node.serve = self._hold

    async def after(self, records: int) -> None:
        self._stop_after = records
        async with asyncio.timeout(WAIT_S):
            await self._sent.wait()

    def go_on(self) -> None:
        self._going.set()

    async def _hold(self, stream: Stream) -> None:
        send = stream.send

        async def held(record: Record) -> None:
            await send(record)
            self._count += 1
            if self._count >= self._stop_after:
                self._sent.set()
                await self._going.wait()

        stream.send = held  # type: ignore[method-assign]
        await self._serve(stream)


# Resuming


async def test_what_arrived_before_an_interruption_is_not_sent_again(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        held = Held(other)
        async with asyncio.TaskGroup() as group:
            interrupted = group.create_task(one.blobs.fetch(DIGEST, [other.node]))
            await held.after(1 + 4)
            async with asyncio.timeout(WAIT_S):
                while sum((one.directory / name).stat().st_size for name in files(one)) < 4 * PIECE_BYTES:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            interrupted.cancel()
        other.serve = other.blobs.serve
        assert other.given["bytes"] == 4 * PIECE_BYTES
        path = await one.blobs.fetch(DIGEST, [other.node])
        assert path.read_bytes() == DATA
        assert other.given["bytes"] == len(DATA)


async def test_who_asks_while_a_transfer_is_being_given_up_gets_one_of_its_own(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        held = Held(other)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            interrupted = group.create_task(one.blobs.fetch(DIGEST, [other.node]))
            await held.after(1 + 4)
            interrupted.cancel()
            await asyncio.wait([interrupted])
            other.serve = other.blobs.serve
            again = group.create_task(one.blobs.fetch(DIGEST, [other.node]))
        assert again.result().read_bytes() == DATA


async def test_lost_connection_is_waited_for_and_costs_nothing_twice(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        broken = 0

        def break_early(done_bytes: int, size: int) -> None:
            nonlocal broken
            if not broken:
                broken = done_bytes
                one.transport.lose(other.node, "test")
                other.transport.lose(one.node, "test")

        async with asyncio.timeout(WAIT_S):
            path = await one.blobs.fetch(DIGEST, [other.node], break_early)
        assert path.read_bytes() == DATA
        assert broken and other.asked == 2
        assert other.given["bytes"] - len(DATA) <= (1 << 20) + PIECE_BYTES  # what was on its way: at most a window


async def test_put_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        one.store.add(DATA)
        arrival = other.store.begin(DIGEST)
        arrival.append(DATA[: 3 * PIECE_BYTES])
        arrival.suspend()
        told: list[int] = []
        await one.blobs.push(other.node, DIGEST, lambda done_bytes, size: told.append(done_bytes))
        path = other.store.path(DIGEST)
        assert path is not None and path.read_bytes() == DATA
        assert told[0] == 4 * PIECE_BYTES


# Bytes that are not what they should be


def liar(data: bytes) -> Serve:
    """A service that gives `data` for any blob."""

    async def serve(stream: Stream) -> None:
        await stream.receive()
        await stream.send(to_record(Found(len(DATA))))
        for start in range(0, len(data), PIECE_BYTES):
            await stream.send(Record(RecordKind.DATA, data[start : start + PIECE_BYTES]))
        await stream.finish()

    return serve


def bent(place: int) -> bytes:
    data = bytearray(DATA)
    data[place] ^= 0x40
    return bytes(data)


@pytest.mark.parametrize("place", [0, len(DATA) // 2, len(DATA) - 1])
async def test_one_wrong_byte_is_found_and_another_source_is_asked(tmp_path: Path, place: int) -> None:
    async with mesh_of(3, tmp_path) as (one, lying, honest):
        lying.serve = liar(bent(place))
        honest.store.add(DATA)
        other_blob = honest.store.add(b"another")
        with pytest.raises(CorruptBlob):
            await one.blobs.fetch(DIGEST, [lying.node])
        assert files(one) == set()
        assert (await one.blobs.fetch(other_blob, [honest.node])).read_bytes() == b"another"
        assert (await one.blobs.fetch(DIGEST, [lying.node, honest.node])).read_bytes() == DATA


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b""], ids=["short", "long", "nothing"])
async def test_source_that_sends_more_or_less_than_it_said_breaks_the_protocol(tmp_path: Path, data: bytes) -> None:
    async with mesh_of(2, tmp_path) as (one, lying):
        lying.serve = liar(data)
        with pytest.raises(ProtocolError):
            await one.blobs.fetch(DIGEST, [lying.node])


async def test_damaged_beginning_on_disk_costs_one_start_afresh(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        arrival = one.store.begin(DIGEST)
        arrival.append(bent(5)[: 3 * PIECE_BYTES])
        arrival.suspend()
        assert (await one.blobs.fetch(DIGEST, [other.node])).read_bytes() == DATA
        assert other.asked == 2


async def test_beginning_of_something_larger_costs_one_start_afresh(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        arrival = one.store.begin(DIGEST)
        arrival.append(DATA + b"and more")
        arrival.suspend()
        assert (await one.blobs.fetch(DIGEST, [other.node])).read_bytes() == DATA


async def test_put_of_wrong_bytes_is_the_putters_fault_and_leaves_nothing(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        stream = await one.transport.open(other.node, StreamHeader(PROTOCOL, ""))
        await stream.send(to_record(Put(DIGEST, 4)))
        assert read_wanted(await stream.receive(), other.node) == Wanted(0)
        await stream.send(Record(RecordKind.DATA, b"evil"))
        await stream.finish()
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(StreamReset) as seen:
                await stream.receive()
        assert seen.value.code == ResetCode.PROTOCOL_ERROR
        assert isinstance(other.errors[0], CorruptBlob)
        assert files(other) == set() and other.store.used_bytes == 0


async def test_request_that_is_none_breaks_the_protocol(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        for nonsense in (b"", b"\xc1", to_record(Get(DIGEST, 0)).payload[:-1]):
            stream = await one.transport.open(other.node, StreamHeader(PROTOCOL, ""))
            await stream.send(Record(RecordKind.MESSAGE, nonsense))
            async with asyncio.timeout(WAIT_S):
                with pytest.raises(StreamReset) as seen:
                    await stream.receive()
            assert seen.value.code == ResetCode.PROTOCOL_ERROR


async def test_get_past_the_end_learns_the_size_and_gets_nothing(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        stream = await one.transport.open(other.node, StreamHeader(PROTOCOL, ""))
        await stream.send(to_record(Get(DIGEST, 1 << 40)))
        await stream.finish()
        async with asyncio.timeout(WAIT_S):
            assert read_found(await stream.receive(), other.node) == Found(len(DATA))
            assert await stream.receive() is None


# Room


async def test_blob_beyond_the_quota_is_not_begun(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path, quota=len(DATA)) as (one, other):
        other.store.add(DATA)
        one.store.add(b"x")
        with pytest.raises(NoRoom):
            await one.blobs.fetch(DIGEST, [other.node])
        assert one.store.used_bytes == 1 and len(files(one)) == 1


async def test_put_beyond_the_quota_is_refused_before_any_byte(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path, quota=len(DATA)) as (one, other):
        one.store.add(DATA)
        other.store.add(b"x")
        with pytest.raises(NoRoom, match="has no room"):
            await one.blobs.push(other.node, DIGEST)
        assert other.store.used_bytes == 1 and not other.errors


async def test_put_of_what_is_there_sends_nothing(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        one.store.add(DATA)
        other.store.add(DATA)
        told: list[int] = []
        await one.blobs.push(other.node, DIGEST, lambda done_bytes, size: told.append(done_bytes))
        assert told == []


async def test_put_of_what_is_not_here_is_an_error_here(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        with pytest.raises(NoSuchBlob, match="not here"):
            await one.blobs.push(other.node, DIGEST)


async def test_blob_that_arrives_already_is_not_put_at_the_same_time(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        one.store.add(DATA)
        arrival = other.store.begin(DIGEST)
        with pytest.raises(StreamReset) as seen:
            await one.blobs.push(other.node, DIGEST)
        assert seen.value.code == ResetCode.BUSY
        arrival.suspend()


async def test_one_peer_has_only_so_many_transfers_at_once(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        streams = [await one.transport.open(other.node, StreamHeader(PROTOCOL, "")) for _ in range(MAX_PER_PEER + 1)]
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(StreamReset) as seen:
                await streams[-1].receive()
        assert seen.value.code == ResetCode.BUSY


async def test_disk_that_fails_is_neither_the_peers_fault_nor_the_end(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        (one.directory / "partial").rmdir()
        with pytest.raises(StoreFailed):
            await one.blobs.fetch(DIGEST, [other.node])
        path = other.store.path(DIGEST)
        assert path is not None
        path.unlink()
        path.symlink_to(path)
        (one.directory / "partial").mkdir()
        with pytest.raises(StreamReset) as seen:
            await one.blobs.fetch(DIGEST, [other.node])
        assert seen.value.code == ResetCode.INTERNAL


async def test_leaving_ends_what_is_on_its_way(tmp_path: Path) -> None:
    async with mesh_of(2, tmp_path) as (one, other):
        other.store.add(DATA)
        held = Held(other)
        async with asyncio.TaskGroup() as group:
            async with Blobs(one.transport, one.store) as brief:
                waiting = group.create_task(expect(Unreachable, brief.fetch(DIGEST, [other.node])))
                await held.after(3)
            await waiting
        held.go_on()


async def expect(kind: type[BaseException], work: Awaitable[object]) -> None:
    with pytest.raises(kind):
        await work


async def test_a_copy_comes_from_whoever_has_it_once_for_all_who_wait(tmp_path: Path) -> None:
    async with mesh_of(4, tmp_path) as (one, *others):
        nodes = [other.node for other in others]
        others[1].store.add(DATA)
        paths = await asyncio.gather(*(one.blobs.copy(DIGEST, nodes) for _ in range(5)))
        assert len(set(paths)) == 1 and paths[0].read_bytes() == DATA
        assert paths[0].parent.name == "copies"
        assert [other.asked for other in others] == [1, 2, 1], "each is asked once, one of them is pulled from"


async def test_a_copy_that_nobody_has_is_no_wait(tmp_path: Path) -> None:
    async with mesh_of(3, tmp_path) as (one, *others):
        with pytest.raises(NoSuchBlob, match="none of 2 nodes"):
            await one.blobs.copy(DIGEST, [other.node for other in others])
        with pytest.raises(NoSuchBlob, match="none of 0 nodes"):
            await one.blobs.copy(DIGEST, [])
