"""The blobs of this node for programs on this host: taken in as they come, given out, listed, removed.

`blobs` moves them between nodes; both have one store and one thread for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from transport.blob_disk import Disk
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore, Deposit, StoredBlob


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is here, of how much."""

    blobs: tuple[StoredBlob, ...]
    used_bytes: int
    quota_bytes: int


class Incoming:
    """A blob that is being written, each piece while the next arrives."""

    def __init__(self, disk: Disk, deposit: Deposit) -> None:
        self._disk = disk
        self._deposit = deposit
        self._writing: asyncio.Future[None] | None = None

    async def append(self, data: bytes) -> None:
        """Begin to write the next bytes, once those before are on their way. Raises StoreFailed."""
        if self._writing is not None:
            await self._writing
        self._writing = self._disk.start(self._deposit.append, data)

    async def complete(self) -> BlobDigest:
        """Its digest, once it is safe on the disk. Raises StoreFailed."""
        if self._writing is not None:
            await self._writing
        return await self._disk.run(self._deposit.complete)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A blob that is being read."""

    disk: Disk
    file: int
    size: int

    def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes, in order. Raises StoreFailed."""
        return self.disk.pieces(self.file, 0, self.size)


class LocalBlobs:
    """disk: the thread that alone touches `store`."""

    def __init__(self, store: BlobStore, disk: Disk) -> None:
        self._store = store
        self._disk = disk

    @asynccontextmanager
    async def taking_in(self, size: int) -> AsyncIterator[Incoming]:
        """A blob of `size` bytes that comes now; gone again unless it is completed. Raises NoRoom, StoreFailed."""
        async with self._disk.holding(lambda: self._store.deposit(size), Deposit.abandon) as deposit:
            yield Incoming(self._disk, deposit)

    @asynccontextmanager
    async def giving_out(self, digest: BlobDigest) -> AsyncIterator[Outgoing | None]:
        """The blob, open for as long as the block; None when it is not here. Raises StoreFailed."""
        path = await self.path(digest)
        if path is None:
            yield None
            return
        async with self._disk.reading(path) as file:
            yield Outgoing(self._disk, file, await self._disk.run(_length, path))

    async def path(self, digest: BlobDigest) -> Path | None:
        """Where the blob lies; None when it is not here. Counts as a use of it."""
        return await self._disk.run(self._store.path, digest)

    async def holdings(self) -> Holdings:
        """What is here now."""
        return await self._disk.run(
            lambda: Holdings(self._store.whole, self._store.used_bytes, self._store.quota_bytes)
        )

    async def remove(self, digest: BlobDigest) -> bool:
        """Delete a blob; whether it was here."""
        return await self._disk.run(self._store.remove, digest)


def _length(path: Path) -> int:
    return path.stat().st_size
