"""`blob/1`: moves content-addressed bytes between stores: asked for or sent, resumed, and checked by their digest.

Bytes go over a bulk stream, straight to disk in pieces, and count only when the whole has the digest that names it.
What arrived before an interruption is kept and not sent again. Disk and hashing run in one thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from transport.blob_disk import Disk, StoreFailed
from transport.blob_message import (
    MAX_BLOB_BYTES,
    PROTOCOL,
    BlobDigest,
    Found,
    Full,
    Get,
    Missing,
    Put,
    Stored,
    Wanted,
    read_found,
    read_request,
    read_stored,
    read_wanted,
    to_record,
)
from transport.blob_store import Arrival, Arriving, BlobStore, CorruptBlob, NoRoom
from transport.errors import MeshError, ProtocolError, ResetCode, TimedOut, Unreachable
from transport.identity import short
from transport.interface import BULK_FROM_BYTES, NodeId, Record, RecordKind, Stream, StreamHeader, Transport
from transport.local_blobs import LocalBlobs

logger = logging.getLogger("meshd.transport")

REQUEST_S = 5.0
ANSWER_S = 30.0
"""For an answer: the other end may first have to hash what it has."""

HOLDER_S = 5.0
"""For whether it has a blob, which a node knows without looking."""
SECOND_HOLDER_S = 0.2
"""How long others may take to say so once one has: they are for when that one fails."""

PROGRESS_S = 60.0
RETRY_S = (0.5, 1.0, 2.0, 4.0, 4.0)
"""Pauses between tries of one source that is out of reach, together what a link may take to come back (10 s)."""

MAX_PER_PEER = 8
"""Transfers that one peer may have here at once."""

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Told (bytes here, bytes in all) as they grow."""


class NoSuchBlob(MeshError):
    """The peer does not have the blob."""


class Blobs:
    """The blobs of one node. Use as `async with`."""

    def __init__(self, transport: Transport, store: BlobStore) -> None:
        self._transport = transport
        self._store = store
        self._disk = Disk()
        self.local = LocalBlobs(store, self._disk)
        self._pulls: dict[BlobDigest, _Pull] = {}
        self._served: Counter[NodeId] = Counter()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Blobs:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pull in self._pulls.values():
            pull.task.cancel()
        try:
            # The group is told of cancellation only: what else ends the block leaves it as itself, not in a group.
            if isinstance(error, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, trace)
            else:
                await self._group.__aexit__(None, None, None)
        finally:
            self._disk.close()

    # Getting

    async def fetch(self, digest: BlobDigest, sources: Sequence[NodeId], progress: Progress | None = None) -> Path:
        """Where the blob lies here, after pulling it from the first of `sources` that can give it whole.

        Who asks for a blob that is on its way waits for that, whatever its own sources are. Raises NoRoom, StoreFailed,
        or what the last source met: NoSuchBlob, CorruptBlob, Unreachable, StreamReset, ProtocolError.
        """
        return await self._once(digest, lambda told: self._pull(digest, sources, told, is_copy=False), progress)

    async def copy(self, digest: BlobDigest, nodes: Sequence[NodeId], progress: Progress | None = None) -> Path:
        """As `fetch`, from whoever of `nodes` has the blob; all are asked at once. A copy may give way to other blobs.

        Raises NoSuchBlob when none of them has it.
        """

        async def pull(told: Progress) -> Path:
            path = await self._pull(digest, await self._holders(digest, nodes), told, is_copy=True)
            logger.info("a copy of blob %s came from a peer", digest.hex()[:16])
            return path

        return await self._once(digest, pull, progress)

    async def _once(
        self, digest: BlobDigest, work: Callable[[Progress], Awaitable[Path]], progress: Progress | None
    ) -> Path:
        """Where the blob lies: here already, or once the one transfer of it has ended, which others wait for too."""
        while (given_up := self._pulls.get(digest)) is not None and given_up.is_given_up:
            await asyncio.wait([given_up.task])
        path = await self._disk.run(self._store.path, digest)
        if path is not None:
            return path
        pull = self._pulls.get(digest)
        if pull is None or pull.is_given_up:
            pull = self._pulls[digest] = _Pull()
            pull.task = self._group.create_task(self._run(pull, digest, work), name=f"pull {digest.hex()[:8]}")
        return await pull.wait(progress)

    async def _run(self, pull: _Pull, digest: BlobDigest, work: Callable[[Progress], Awaitable[Path]]) -> None:
        try:
            pull.succeeded(await work(pull.told))
        except MeshError as error:
            pull.failed(error)
        finally:
            if self._pulls.get(digest) is pull:
                del self._pulls[digest]
            pull.failed(Unreachable("the transfer was given up"))

    async def _holders(self, digest: BlobDigest, nodes: Sequence[NodeId]) -> list[NodeId]:
        """Those of `nodes` that say they have the blob: the first who does, and who says so hardly later.

        Raises NoSuchBlob when all said no, or nothing.
        """
        holders: list[NodeId] = []
        async with asyncio.TaskGroup() as group:
            asked = {group.create_task(self._has(node, digest)): node for node in nodes}
            waiting = set(asked)
            while waiting:
                answered, waiting = await asyncio.wait(
                    waiting, timeout=SECOND_HOLDER_S if holders else None, return_when=asyncio.FIRST_COMPLETED
                )
                holders += [asked[task] for task in answered if task.result()]
                if not answered:
                    break
            for task in waiting:
                task.cancel()
        if not holders:
            raise NoSuchBlob(f"none of {len(nodes)} nodes has blob {digest.hex()[:16]}")
        return holders

    async def _has(self, node: NodeId, digest: BlobDigest) -> bool:
        """Whether `node` has the blob: asked for what comes after its end, so that no bytes follow."""
        try:
            async with asyncio.timeout(HOLDER_S), self._asking(node, is_bulk=False) as stream:
                await stream.send(to_record(Get(digest, MAX_BLOB_BYTES)))
                await stream.finish()
                return isinstance(read_found(await stream.receive(), node), Found)
        except TimeoutError:
            return False
        except MeshError as error:
            logger.info("node %s does not say whether it has blob %s: %s", short(node), digest.hex()[:16], error)
            return False

    async def _pull(self, digest: BlobDigest, sources: Sequence[NodeId], progress: Progress, *, is_copy: bool) -> Path:
        failure: MeshError = Unreachable(f"nobody is known to have blob {digest.hex()[:16]}")
        begin = partial(self._store.begin, digest, is_copy=is_copy)
        async with self._disk.holding(begin, Arrival.suspend) as arrival:
            await self._disk.run(arrival.recall)
            for node in sources:
                try:
                    await self._pull_from(node, arrival, progress)
                except (NoRoom, StoreFailed):
                    raise
                except MeshError as error:
                    logger.info("no blob %s from node %s: %s", digest.hex()[:16], short(node), error)
                    failure = error
                else:
                    path = await self._disk.run(self._store.path, digest)
                    if path is None:
                        raise StoreFailed(f"blob {digest.hex()[:16]} was taken away as soon as it was here")
                    return path
        raise failure

    async def _pull_from(self, node: NodeId, arrival: Arrival, progress: Progress) -> None:
        """Try one source until it can do no more for us: as long as there is progress, and a while without."""
        pauses = iter(RETRY_S)
        is_suspect = False
        while True:
            before = arrival.offset
            try:
                await self._pull_once(node, arrival, progress)
                return
            except CorruptBlob:
                if is_suspect or not before:
                    raise
                is_suspect = True  # unless what was here before is to blame
            except Unreachable:
                if arrival.offset > before:
                    pauses = iter(RETRY_S)
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _pull_once(self, node: NodeId, arrival: Arrival, progress: Progress) -> None:
        async with self._asking(node, is_bulk=True) as stream:
            offset = arrival.offset
            await stream.send(to_record(Get(arrival.digest, offset)))
            await stream.finish()
            found = read_found(await _answer(stream), node)
            if isinstance(found, Found):
                await self._disk.run(arrival.reserve, found.size)
                if arrival.offset != offset:
                    raise CorruptBlob(f"more is here of blob {arrival.digest.hex()[:16]} than node {short(node)} has")
                await self._take_in(stream, arrival, progress)
        if isinstance(found, Missing):
            raise NoSuchBlob(f"node {short(node)} does not have blob {arrival.digest.hex()[:16]}")

    # Giving

    async def push(self, node: NodeId, digest: BlobDigest, progress: Progress | None = None) -> None:
        """Send a blob that is here to `node`, from where it has it on. Returns when it is there, whole and checked.

        Raises NoSuchBlob when it is not here, NoRoom when `node` has none, StoreFailed, Unreachable, StreamReset,
        ProtocolError. Called again after an interruption it goes on.
        """
        path = await self._disk.run(self._store.path, digest)
        if path is None:
            raise NoSuchBlob(f"blob {digest.hex()[:16]} is not here")
        async with self._disk.reading(path) as file:
            size = await self._disk.run(_size, file)
            async with self._asking(node, is_bulk=size > BULK_FROM_BYTES) as stream:
                await stream.send(to_record(Put(digest, size)))
                answer = read_wanted(await _answer(stream), node)
                if isinstance(answer, Wanted):
                    if answer.offset > size:
                        raise ProtocolError(f"node {short(node)} wants byte {answer.offset} of {size}")
                    await self._give_out(stream, file, answer.offset, size, progress or _quietly)
                await stream.finish()
                if isinstance(answer, Wanted):
                    read_stored(await _answer(stream), node)
        if isinstance(answer, Full):
            raise NoRoom(f"node {short(node)} has no room for {size} bytes")

    # Serving

    async def serve(self, stream: Stream) -> None:
        """Serve one `blob/1` stream of a peer to its end. Raises MeshError."""
        node = stream.peer.node
        if self._served[node] >= MAX_PER_PEER:
            stream.reset(ResetCode.BUSY)
            return
        self._served[node] += 1
        try:
            match read_request(await _within(REQUEST_S, stream.receive(), "no request"), node):
                case Get(digest, offset):
                    await self._serve_get(stream, BlobDigest(digest), offset)
                case Put(digest, size):
                    await self._serve_put(stream, BlobDigest(digest), size)
            await stream.finish()
        except (Arriving, StoreFailed) as error:
            logger.warning("blob stream of node %s: %s", short(node), error)
            stream.reset(ResetCode.BUSY if isinstance(error, Arriving) else ResetCode.INTERNAL)
        finally:
            self._served -= Counter({node: 1})

    async def _serve_get(self, stream: Stream, digest: BlobDigest, offset: int) -> None:
        path = await self._disk.run(self._store.path, digest)
        if path is None:
            await stream.send(to_record(Missing()))
            return
        async with self._disk.reading(path) as file:
            size = await self._disk.run(_size, file)
            await stream.send(to_record(Found(size)))
            if offset <= size:  # else the peer has part of something else, and will see it from the size
                await self._give_out(stream, file, offset, size, _quietly)

    async def _serve_put(self, stream: Stream, digest: BlobDigest, size: int) -> None:
        if await self._disk.run(self._store.path, digest) is not None:
            await stream.send(to_record(Stored()))
            return
        async with self._disk.holding(lambda: self._store.begin(digest), Arrival.suspend) as arrival:
            try:
                await self._disk.run(arrival.reserve, size)
            except NoRoom as error:
                logger.info("no room for a blob of node %s: %s", short(stream.peer.node), error)
                await stream.send(to_record(Full()))
                return
            await self._disk.run(arrival.recall)
            await stream.send(to_record(Wanted(arrival.offset)))
            await self._take_in(stream, arrival, _quietly)
        await stream.send(to_record(Stored()))

    # Moving bytes

    async def _take_in(self, stream: Stream, arrival: Arrival, progress: Progress) -> None:
        """Write what comes, each piece while the next arrives, and complete the blob."""
        offset, size = arrival.offset, arrival.size
        writing: asyncio.Future[None] | None = None
        try:
            while (record := await _within(PROGRESS_S, stream.receive(), "no more of a blob")) is not None:
                offset += len(record.payload)
                if record.kind is not RecordKind.DATA or not record.payload or offset > size:
                    raise ProtocolError(f"expected {size} bytes of a blob from {short(stream.peer.node)}, got others")
                if writing is not None:
                    await writing
                writing = self._disk.start(arrival.append, record.payload)
                progress(offset, size)
        finally:
            if writing is not None:
                await writing
        if offset < size:
            raise ProtocolError(f"expected {size} bytes of a blob from {short(stream.peer.node)}, got {offset}")
        await self._disk.run(arrival.complete)

    async def _give_out(self, stream: Stream, file: int, offset: int, size: int, progress: Progress) -> None:
        """Send a file from `offset` on."""
        async for data in self._disk.pieces(file, offset, size):
            offset += len(data)
            await _within(PROGRESS_S, stream.send(Record(RecordKind.DATA, data)), "no room for more of a blob")
            progress(offset, size)

    @asynccontextmanager
    async def _asking(self, node: NodeId, *, is_bulk: bool) -> AsyncIterator[Stream]:
        """A stream to `node` that is reset unless the block ends well."""
        stream = await self._transport.open(node, StreamHeader(PROTOCOL, ""), bulk=is_bulk)
        try:
            yield stream
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise


class _Pull:
    """A transfer and who waits for it; it ends when nobody does any more."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.is_given_up = False
        self._outcome: asyncio.Future[Path] = asyncio.get_running_loop().create_future()
        self._listeners: list[Progress] = []

    async def wait(self, progress: Progress | None) -> Path:
        listener = progress or _quietly
        self._listeners.append(listener)
        try:
            return await asyncio.shield(self._outcome)
        finally:
            self._listeners.remove(listener)
            if not self._listeners:
                self.is_given_up = True
                self.task.cancel()

    def told(self, done_bytes: int, size: int) -> None:
        for listener in self._listeners:
            listener(done_bytes, size)

    def succeeded(self, path: Path) -> None:
        self._outcome.set_result(path)

    def failed(self, error: MeshError) -> None:
        """The first ending counts."""
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # nobody need be waiting for it


def _size(file: int) -> int:
    return os.fstat(file).st_size


async def _answer(stream: Stream) -> Record | None:
    return await _within(ANSWER_S, stream.receive(), "no answer about a blob")


async def _within(limit_s: float, work: Awaitable[T], what: str) -> T:
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError as error:
        raise TimedOut(f"{what} within {limit_s:g} s") from error


def _quietly(done_bytes: int, size: int) -> None:
    """For who does not watch."""
