"""Brings the files of a model to this disk: from nodes that have them, else from the hub.

Every file arrives under its SHA-256 and goes on where an earlier try stopped, whichever source that had; it gets its
name only whole and checked. Which files they are is for the caller to find out.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm.models import hub
from llm.models.aside import run_aside
from llm.models.selection import HubFile, identity_of
from llm.models.transfer import Meter
from transport.blob_disk import StoreFailed
from transport.blob_message import BlobDigest
from transport.blob_store import Arrival, BlobStore, CorruptBlob
from transport.blobs import Blobs
from transport.errors import MeshError
from transport.interface import NodeId, Transport

logger = logging.getLogger("meshd.llm")

GB = 1e9
QUOTA_BYTES = 1 << 62
"""The disk is the limit, and looked at before a transfer begins."""


class FetchFailed(Exception):
    """The files did not come. is_weather: trying again later makes sense."""

    def __init__(self, message: str, *, is_weather: bool = False) -> None:
        super().__init__(message)
        self.is_weather = is_weather


@dataclass(frozen=True, slots=True)
class WantedFile:
    """name: on this disk.  hub: where the hub has it, None when nobody knows."""

    name: str
    size: int
    sha256: str
    hub: HubFile | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """One model. beside: its projector, where it has one, which is no part of what it is.  peers: nodes that have it,
    best first.  listing: of the hub's repository that has it.
    """

    files: tuple[WantedFile, ...]
    peers: tuple[NodeId, ...] = ()
    listing: hub.Listing | None = None
    beside: tuple[WantedFile, ...] = ()

    @property
    def all_files(self) -> tuple[WantedFile, ...]:
        """What is to be brought."""
        return (*self.beside, *self.files)


def free_disk_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(slots=True)
class Fetcher:
    """folder: of all models that were brought. disk_bytes: what its disk has free."""

    transport: Transport
    folder: Path
    disk_bytes: Callable[[Path], int] = free_disk_bytes
    _busy: set[str] = field(default_factory=set)

    async def fetch(self, wish: Wish, meter: Meter) -> tuple[Path, ...]:
        """Where the model's files are, once all are here, its projector beside them.

        Raises FetchFailed; what came stays for the next try.
        """
        if self._busy & {file.sha256 for file in wish.all_files}:
            raise FetchFailed("these files are on their way already, or their last transfer is just ending")
        meter.size_bytes = sum(file.size for file in wish.all_files)
        try:
            await asyncio.to_thread(self._check_disk, wish)
            async with Blobs(self.transport, await asyncio.to_thread(self._store)) as blobs:
                paths = [await self._one(file, wish, blobs, meter) for file in wish.all_files]
                return tuple(paths[len(wish.beside) :])
        except OSError as error:
            raise FetchFailed(f"cannot write below {self.folder}: {error}") from error

    def place(self, files: Sequence[WantedFile]) -> Path:
        """The folder that a model with these files has here."""
        return self.folder / identity_of([file.sha256 for file in files])[:16]

    def forget(self, sha256s: Sequence[str]) -> None:
        """Delete what has arrived of these files so far. Blocks."""
        store = self._store()
        for sha256 in sha256s:
            store.remove(BlobDigest(bytes.fromhex(sha256)))

    def _store(self) -> BlobStore:
        return BlobStore(self.folder / "arriving", QUOTA_BYTES)

    def _check_disk(self, wish: Wish) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing = sum(file.size - self._here_bytes(file, wish) for file in wish.all_files)
        free = self.disk_bytes(self.folder)
        if missing > free:
            raise FetchFailed(
                f"no room on the disk: {missing / GB:.3f} GB are still to come, the disk of {self.folder} has "
                f"{free / GB:.3f} GB free; {(missing - free) / GB:.3f} GB more are needed"
            )

    def _here_bytes(self, file: WantedFile, wish: Wish) -> int:
        arriving = self.folder / "arriving"
        places = (self.place(wish.files) / file.name, arriving / file.sha256, arriving / "partial" / file.sha256)
        return max((place.stat().st_size for place in places if place.is_file()), default=0)

    async def _one(self, file: WantedFile, wish: Wish, blobs: Blobs, meter: Meter) -> Path:
        path = self.place(wish.files) / file.name
        if not await asyncio.to_thread(path.is_file):
            if not await self._from_peers(file, wish, blobs, meter):
                await self._from_hub(file, wish, meter)
            await asyncio.to_thread(self._name, file, path)
        meter.finished(file.size)
        return path

    def _name(self, file: WantedFile, path: Path) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "arriving" / file.sha256).replace(path)

    async def _from_peers(self, file: WantedFile, wish: Wish, blobs: Blobs, meter: Meter) -> bool:
        """Whether a node gave it. Raises FetchFailed when none did and nobody else could."""
        if not wish.peers:
            return False
        clock = asyncio.get_running_loop().time
        meter.source = "the mesh"
        self._busy.add(file.sha256)
        try:
            await blobs.fetch(_digest(file), wish.peers, lambda done, size: meter.told(done, clock()))
        except StoreFailed as error:
            raise FetchFailed(str(error)) from error
        except MeshError as error:
            if file.hub is None:
                raise FetchFailed(f"no node gave {file.name}: {error}", is_weather=True) from error
            logger.info("no node gave %s, so it comes from the hub: %s", file.name, error)
            return False
        finally:
            self._busy.discard(file.sha256)
        return True

    async def _from_hub(self, file: WantedFile, wish: Wish, meter: Meter) -> None:
        if file.hub is None or wish.listing is None:
            raise FetchFailed(f"no node that has {file.name} is here", is_weather=True)
        if not wish.listing.commit:
            raise FetchFailed(f"the hub cannot be reached, and not all of {file.name} is here", is_weather=True)
        listing, wanted = wish.listing, file.hub
        loop = asyncio.get_running_loop()
        meter.source = "the hub"

        def told(done_bytes: int) -> None:
            loop.call_soon_threadsafe(lambda: meter.told(done_bytes, loop.time()))

        def work(stop: threading.Event) -> None:
            try:
                self._download(file, lambda arrival: hub.download(listing, wanted, arrival, told, stop.is_set))
            finally:
                self._busy.discard(file.sha256)

        self._busy.add(file.sha256)  # until the thread has ended, which may be after us
        try:
            await run_aside(work, f"download {file.name}")
        except hub.HubFailed as error:
            raise FetchFailed(str(error), is_weather=error.is_weather) from error
        except CorruptBlob as error:
            raise FetchFailed(
                f"what the hub sent is not {file.name}: {error}; it was deleted", is_weather=True
            ) from error

    def _download(self, file: WantedFile, download: Callable[[Arrival], None]) -> None:
        """Blocks, in the thread that downloads: the store is its own."""
        store = self._store()
        if store.path(_digest(file)) is not None:
            return
        arrival = store.begin(_digest(file))
        try:
            arrival.recall()
            arrival.reserve(file.size)
            download(arrival)
            arrival.complete()
        finally:
            arrival.suspend()


def _digest(file: WantedFile) -> BlobDigest:
    return BlobDigest(bytes.fromhex(file.sha256))
