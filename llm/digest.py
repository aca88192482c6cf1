"""Says which model some files are: a fingerprint at once, the SHA-256 of every byte when there was time.

Both read the disk and the second may take minutes: call them in a thread. The SHA-256 is remembered by path,
size and modification time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from llm.models.selection import identity_of
from transport.whole_file import replace_file

SAMPLES = 16
SAMPLE_BYTES = 64 << 10
CHUNK_BYTES = 4 << 20


def fingerprint(paths: Sequence[Path], header_bytes: int) -> str:
    """64 hex digits that differ, for all practical purposes, where the files differ.

    Covers every file's size, the first one's head and 16 samples of each: trainings of one architecture
    share their head, but not their weights. At most about 1 MiB a file is read.
    """
    hasher = hashlib.sha256(b"meshd model fingerprint v1")
    for number, path in enumerate(paths):
        size = path.stat().st_size
        hasher.update(size.to_bytes(8, "big"))
        with path.open("rb") as file:
            hasher.update(file.read(header_bytes) if number == 0 else b"")
            for sample in range(SAMPLES):
                file.seek(sample * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
                hasher.update(file.read(SAMPLE_BYTES))
    return hasher.hexdigest()


class DigestCache:
    """SHA-256 of model files, kept in one small JSON file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def digest(self, paths: Sequence[Path]) -> str:
        """What the files are called in offers: `identity_of` their SHA-256."""
        return identity_of(self.each(paths))

    def each(self, paths: Sequence[Path]) -> tuple[str, ...]:
        """The SHA-256 of each file, 64 hex digits."""
        known = self._load()
        keys = [_key(path) for path in paths]
        digests = tuple(known.get(key) or _sha256(path) for key, path in zip(keys, paths, strict=True))
        if any(key not in known for key in keys):
            self._save(known | dict(zip(keys, digests, strict=True)))
        return digests

    def note(self, paths: Sequence[Path], digests: Sequence[str]) -> None:
        """Remember the SHA-256 of files that somebody has just hashed."""
        self._save(self._load() | dict(zip((_key(path) for path in paths), digests, strict=True)))

    def _load(self) -> dict[str, str]:
        try:
            known = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}  # a lost cache only costs the time to hash again
        return {str(key): str(value) for key, value in known.items()} if isinstance(known, dict) else {}

    def _save(self, known: dict[str, str]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._file, json.dumps(known, indent=1).encode())


def _key(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
