"""Files named by the SHA-256 of their bytes, in one directory and within its quota.

What is still arriving lies under `partial/` and goes on there after any end of the program; it moves to its name in one
step, once its digest is right. Everything here blocks: `blobs` calls it from one thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from io import FileIO
from pathlib import Path
from typing import NewType

from transport.blob_message import PIECE_BYTES
from transport.errors import MeshError, ProtocolError

logger = logging.getLogger("meshd.transport")

BlobDigest = NewType("BlobDigest", bytes)
"""SHA-256 of a blob's bytes."""

_NAME = re.compile(r"[0-9a-f]{64}")


class NoRoom(MeshError):
    """The store's quota has no room for a blob. Nothing was changed."""


class Arriving(MeshError):
    """The blob is on its way in already."""


class CorruptBlob(ProtocolError):
    """What arrived is not what its digest says; all of it is gone again."""


def digest_of(data: bytes) -> BlobDigest:
    return BlobDigest(hashlib.sha256(data).digest())


class BlobStore:
    """quota_bytes: of everything in `directory`, and of what is arriving. Makes the directory.

    Methods raise OSError when the disk does.
    """

    def __init__(self, directory: Path, quota_bytes: int) -> None:
        self._directory = directory
        self._partial = directory / "partial"
        self._quota_bytes = quota_bytes
        self._partial.mkdir(parents=True, exist_ok=True)
        self._whole = _sizes(directory)
        self._begun = _sizes(self._partial)
        self._arriving: dict[BlobDigest, int] = {}
        self._lent: dict[BlobDigest, Path] = {}

    @property
    def used_bytes(self) -> int:
        """Of the quota, with what is promised to blobs that are arriving."""
        return sum(self._whole.values()) + sum(self._begun.values()) + sum(self._arriving.values())

    def path(self, digest: BlobDigest) -> Path | None:
        """Where the blob lies whole; None when it does not."""
        if digest in self._whole:
            return self._directory / digest.hex()
        return self._lent.get(digest)

    def lend(self, digest: BlobDigest, path: Path) -> None:
        """Give out a file that lies elsewhere, which somebody has hashed. It takes nothing of the quota."""
        self._lent[digest] = path

    def add(self, data: bytes) -> BlobDigest:
        """Keep `data`. Raises NoRoom."""
        digest = digest_of(data)
        if self.path(digest) is None:
            arrival = self.begin(digest)
            try:
                arrival.reserve(len(data))
                arrival.restart()
                arrival.append(data)
                arrival.complete()
            finally:
                arrival.suspend()
        return digest

    def remove(self, digest: BlobDigest) -> None:
        """Delete a blob, whole or begun; nothing when it is not here or arrives just now."""
        self._lent.pop(digest, None)
        if self._whole.pop(digest, None) is not None:
            (self._directory / digest.hex()).unlink(missing_ok=True)
        self._drop_begun(digest)

    def begin(self, digest: BlobDigest) -> Arrival:
        """Take a blob in, going on where an earlier run stopped. Raises Arriving."""
        if digest in self._arriving:
            raise Arriving(f"blob {digest.hex()[:16]} is on its way in already")
        arrival = Arrival(self, digest, self._partial / digest.hex())
        self._arriving[digest] = self._begun.pop(digest, 0)
        return arrival

    # For `Arrival`

    def reserve(self, digest: BlobDigest, size: int) -> None:
        """What was begun and left alone gives way, the oldest first. Raises NoRoom."""
        wanted_bytes = size - self._arriving[digest]
        left_alone = sorted(self._begun, key=self._begun_at)
        while self.used_bytes + wanted_bytes > self._quota_bytes:
            if not left_alone:
                free = max(0, self._quota_bytes - self.used_bytes)
                raise NoRoom(f"a blob wants {wanted_bytes} bytes more, {free} of {self._quota_bytes} are free")
            self._drop_begun(left_alone.pop(0))
        self._arriving[digest] = size

    def name(self, digest: BlobDigest) -> None:
        (self._partial / digest.hex()).replace(self._directory / digest.hex())
        self._whole[digest] = self._arriving.pop(digest)
        _sync_directory(self._directory)

    def leave(self, digest: BlobDigest, length: int) -> None:
        del self._arriving[digest]
        if length:
            self._begun[digest] = length
        else:
            (self._partial / digest.hex()).unlink(missing_ok=True)

    def _begun_at(self, digest: BlobDigest) -> float:
        try:
            return (self._partial / digest.hex()).stat().st_mtime
        except OSError:
            return 0.0

    def _drop_begun(self, digest: BlobDigest) -> None:
        if self._begun.pop(digest, None) is not None:
            (self._partial / digest.hex()).unlink(missing_ok=True)


class Arrival:
    """One blob on its way in, made by `BlobStore.begin`. It ends with `complete` or `suspend`.

    size: of the whole, once it is reserved.  offset: how much of it is here; an earlier run's part counts as soon as
    `recall` has read it.
    """

    def __init__(self, store: BlobStore, digest: BlobDigest, path: Path) -> None:
        self.digest = digest
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
        file = self._open_file()
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        self._hasher.update(data)
        self.offset += len(data)

    def complete(self) -> None:
        """Give the blob its name. Raises CorruptBlob, and forgets what is here, when these are not its bytes."""
        file = self._open_file()
        if self._hasher.digest() != self.digest:
            self.restart()
            raise CorruptBlob(f"expected the bytes of blob {self.digest.hex()[:16]}, got {self.size} others")
        os.fsync(file.fileno())
        self._store.name(self.digest)
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
