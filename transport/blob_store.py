"""Files named by the SHA-256 of their bytes, in one directory and within its quota.

What is still arriving lies under `partial/` and goes on there after any end of the program; it moves to its name in one
step, once its digest is right. Copies of what other nodes have lie under `copies/` and give way to others
(`blob_room`). Everything here blocks: `blobs` and `local_blobs` call it from one thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from dataclasses import dataclass
from io import FileIO
from itertools import count
from pathlib import Path

from transport.blob_message import PIECE_BYTES, BlobDigest
from transport.blob_room import Droppable, choose_dropped
from transport.errors import MeshError, ProtocolError

logger = logging.getLogger("meshd.transport")

COPIES = "copies"
"""The folder of copies, below the store's own."""
PARTIAL = "partial"
"""That of blobs which have not come whole."""

_NAME = re.compile(r"[0-9a-f]{64}")


class NoRoom(MeshError):
    """The store's quota has no room for a blob. Nothing was changed."""


class Arriving(MeshError):
    """The blob is on its way in already."""


class CorruptBlob(ProtocolError):
    """What arrived is not what its digest says; all of it is gone again."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One that lies here whole. is_copy: it may give way to others."""

    digest: BlobDigest
    size_bytes: int
    is_copy: bool


def digest_of(data: bytes) -> BlobDigest:
    return BlobDigest(hashlib.sha256(data).digest())


class BlobStore:
    """quota_bytes: of everything in `directory`, and of what is arriving. Makes the directory.

    Methods raise OSError when the disk does.
    """

    def __init__(self, directory: Path, quota_bytes: int) -> None:
        self._directory = directory
        self._partial = directory / PARTIAL
        self._copies = directory / COPIES
        self.quota_bytes = quota_bytes
        for folder in (self._partial, self._copies):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._partial.glob("deposit-*"):
            left.unlink()  # whoever was sending it has to begin again anyway
        self._whole = {
            **{digest: StoredBlob(digest, size, True) for digest, size in _sizes(self._copies).items()},
            **{digest: StoredBlob(digest, size, False) for digest, size in _sizes(directory).items()},
        }
        self._begun = _sizes(self._partial)
        self._arriving: dict[BlobDigest, int] = {}
        self._deposits: dict[Path, int] = {}
        self._numbers = count()
        self._lent: dict[BlobDigest, Path] = {}

    @property
    def used_bytes(self) -> int:
        """Of the quota, with what is promised to blobs that are arriving."""
        whole = sum(blob.size_bytes for blob in self._whole.values())
        return whole + sum(map(sum, (self._begun.values(), self._arriving.values(), self._deposits.values())))

    @property
    def whole(self) -> tuple[StoredBlob, ...]:
        """What lies here whole, by digest."""
        return tuple(sorted(self._whole.values(), key=lambda blob: blob.digest))

    def path(self, digest: BlobDigest) -> Path | None:
        """Where the blob lies whole; None when it does not. Counts as a use of it."""
        blob = self._whole.get(digest)
        if blob is None:
            return self._lent.get(digest)
        path = self._path_of(blob)
        try:
            if blob.is_copy:
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            else:
                path.stat()
        except FileNotFoundError:
            del self._whole[digest]  # somebody tidied up
            return self._lent.get(digest)
        return path

    def lend(self, digest: BlobDigest, path: Path) -> None:
        """Give out a file that lies elsewhere, which somebody has hashed. It takes nothing of the quota."""
        self._lent[digest] = path

    def add(self, data: bytes) -> BlobDigest:
        """Keep `data`. Raises NoRoom."""
        deposit = self.deposit(len(data))
        try:
            deposit.append(data)
            return deposit.complete()
        finally:
            deposit.abandon()

    def remove(self, digest: BlobDigest) -> bool:
        """Delete a blob, whole or begun; whether a whole one was here. Nothing to one that arrives just now."""
        self._lent.pop(digest, None)
        blob = self._whole.pop(digest, None)
        if blob is not None:
            self._path_of(blob).unlink(missing_ok=True)
        self._drop_begun(digest)
        return blob is not None

    def begin(self, digest: BlobDigest, *, is_copy: bool = False) -> Arrival:
        """Take a blob in, going on where an earlier run stopped. Raises Arriving."""
        if digest in self._arriving:
            raise Arriving(f"blob {digest.hex()[:16]} is on its way in already")
        arrival = Arrival(self, digest, self._partial / digest.hex(), is_copy=is_copy)
        self._arriving[digest] = self._begun.pop(digest, 0)
        return arrival

    def deposit(self, size: int) -> Deposit:
        """Take in a blob of `size` bytes whose digest nobody has said. Raises NoRoom."""
        self._make_room(size)
        path = self._partial / f"deposit-{next(self._numbers)}"
        deposit = Deposit(self, path, size)
        self._deposits[path] = size
        return deposit

    # For `Arrival` and `Deposit`

    def reserve(self, digest: BlobDigest, size: int) -> None:
        """Raises NoRoom."""
        self._make_room(size - self._arriving[digest])
        self._arriving[digest] = size

    def name(self, digest: BlobDigest, *, is_copy: bool) -> None:
        self._take_in(self._partial / digest.hex(), StoredBlob(digest, self._arriving.pop(digest), is_copy))

    def leave(self, digest: BlobDigest, length: int) -> None:
        del self._arriving[digest]
        if length:
            self._begun[digest] = length
        else:
            (self._partial / digest.hex()).unlink(missing_ok=True)

    def keep_deposit(self, path: Path, digest: BlobDigest) -> None:
        self._take_in(path, StoredBlob(digest, self._deposits.pop(path), False))

    def drop_deposit(self, path: Path) -> None:
        if self._deposits.pop(path, None) is not None:
            path.unlink(missing_ok=True)

    # Inside

    def _path_of(self, blob: StoredBlob) -> Path:
        return (self._copies if blob.is_copy else self._directory) / blob.digest.hex()

    def _take_in(self, path: Path, blob: StoredBlob) -> None:
        """Give a whole file its name. One that was put here stays so, and of two copies one is enough."""
        before = self._whole.get(blob.digest)
        if before is not None and (blob.is_copy or not before.is_copy):
            path.unlink()
            return
        path.replace(self._path_of(blob))
        self._whole[blob.digest] = blob
        _sync_directory(self._path_of(blob).parent)
        if before is not None:
            self._path_of(before).unlink(missing_ok=True)

    def _make_room(self, wanted_bytes: int) -> None:
        """Drop what may go. Raises NoRoom, and drops nothing, when that would not be enough."""
        missing_bytes = self.used_bytes + wanted_bytes - self.quota_bytes
        dropped = choose_dropped(self._droppable(), missing_bytes) if missing_bytes > 0 else ()
        if dropped is None:
            free = max(0, self.quota_bytes - self.used_bytes)
            raise NoRoom(
                f"a blob wants {wanted_bytes} bytes more, {free} of {self.quota_bytes} are free: "
                "remove some, or raise the quota"
            )
        for digest in dropped:
            logger.info("blob %s gives way to another", digest.hex()[:16])
            self.remove(digest)

    def _droppable(self) -> list[Droppable]:
        begun = [
            Droppable(digest, size, True, _used_at(self._partial / digest.hex()))
            for digest, size in self._begun.items()
        ]
        copies = [blob for blob in self._whole.values() if blob.is_copy]
        return begun + [
            Droppable(blob.digest, blob.size_bytes, False, _used_at(self._path_of(blob))) for blob in copies
        ]

    def _drop_begun(self, digest: BlobDigest) -> None:
        if self._begun.pop(digest, None) is not None:
            (self._partial / digest.hex()).unlink(missing_ok=True)


class Deposit:
    """A blob on its way in whose digest is not known yet, made by `BlobStore.deposit`.

    size: of the whole. It ends with `complete` or `abandon`.
    """

    def __init__(self, store: BlobStore, path: Path, size: int) -> None:
        self.size = size
        self._store = store
        self._path = path
        self._hasher = hashlib.sha256()
        self._file = FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w")

    def append(self, data: bytes) -> None:
        """Write the next bytes."""
        _write(self._file, data)
        self._hasher.update(data)

    def complete(self) -> BlobDigest:
        """Keep it, under the digest that it turns out to have."""
        digest = BlobDigest(self._hasher.digest())
        assert os.fstat(self._file.fileno()).st_size == self.size, "all of it was appended"
        os.fsync(self._file.fileno())
        self._file.close()
        self._store.keep_deposit(self._path, digest)
        return digest

    def abandon(self) -> None:
        """Forget it. Nothing once it is complete."""
        self._file.close()
        self._store.drop_deposit(self._path)


class Arrival:
    """One blob on its way in, made by `BlobStore.begin`. It ends with `complete` or `suspend`.

    size: of the whole, once it is reserved.  offset: how much of it is here; an earlier run's part counts as soon as
    `recall` has read it.
    """

    def __init__(self, store: BlobStore, digest: BlobDigest, path: Path, *, is_copy: bool) -> None:
        self.digest = digest
        self._is_copy = is_copy
        self.size = 0
        self.offset = 0
        self._store = store
        self._hasher = hashlib.sha256()
        self._file: FileIO | None = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")

    def recall(self) -> None:
        """Hash what an earlier run has left here."""
        file = self._open_file()
        while data := file.read(PIECE_BYTES):
            self._hasher.update(data)
            self.offset += len(data)

    def reserve(self, size: int) -> None:
        """Say how large the blob is. What is here of a larger one is dropped. Raises NoRoom."""
        self._store.reserve(self.digest, size)
        self.size = size
        if os.fstat(self._open_file().fileno()).st_size > size:
            self.restart()

    def restart(self) -> None:
        """Forget what is here."""
        file = self._open_file()
        file.truncate(0)
        file.seek(0)
        self._hasher = hashlib.sha256()
        self.offset = 0

    def append(self, data: bytes) -> None:
        """Write the next bytes."""
        _write(self._open_file(), data)
        self._hasher.update(data)
        self.offset += len(data)

    def complete(self) -> None:
        """Give the blob its name. Raises CorruptBlob, and forgets what is here, when these are not its bytes."""
        file = self._open_file()
        if self._hasher.digest() != self.digest:
            self.restart()
            raise CorruptBlob(f"expected the bytes of blob {self.digest.hex()[:16]}, got {self.size} others")
        os.fsync(file.fileno())
        self._store.name(self.digest, is_copy=self._is_copy)
        self._close()

    def suspend(self) -> None:
        """Leave what is here for another time. Nothing once the arrival has ended."""
        if self._file is not None:
            length = os.fstat(self._file.fileno()).st_size
            self._close()
            self._store.leave(self.digest, length)

    def _open_file(self) -> FileIO:
        assert self._file is not None, "this arrival has ended"
        return self._file

    def _close(self) -> None:
        self._open_file().close()
        self._file = None


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_atime
    except OSError:
        return 0.0


def _sizes(directory: Path) -> dict[BlobDigest, int]:
    """The blobs in a directory; other files are none of ours."""
    return {
        BlobDigest(bytes.fromhex(entry.name)): entry.stat().st_size
        for entry in directory.iterdir()
        if _NAME.fullmatch(entry.name) and entry.is_file()
    }


def _sync_directory(directory: Path) -> None:
    """A new name outlives a power cut only when its directory was written too."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
