"""The file of API keys in the data directory: edited by the command line, followed by the agent while it runs."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from meshd.keys import BadKeys, KeyRing, decode_ring, encode_ring
from transport.whole_file import replace_file

logger = logging.getLogger("meshd.keys")

Made = TypeVar("Made")
_Stamp = tuple[int, int, int]


@dataclass(slots=True)
class KeyStore:
    """One `keys.json`, mode 0600. It may be missing, which is a ring without keys."""

    path: Path
    _ring: KeyRing = field(default_factory=KeyRing)
    _stamp: _Stamp | None = None

    def now(self) -> KeyRing:
        """The ring as the file has it; read again only when the file changed.

        A file that cannot be read any more leaves the keys of before: damage neither opens nor closes a door. The first
        reading raises BadKeys.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return self._ring
        try:
            self._ring = self._read()
        except (BadKeys, OSError) as error:
            if self._stamp is None:
                raise BadKeys(f"{self.path}: {error}") from error
            logger.error("%s: %s; the keys of before still count", self.path, error)
        self._stamp = stamp
        return self._ring

    def change(self, edit: Callable[[KeyRing], tuple[KeyRing, Made]]) -> Made:
        """Replace the ring by what `edit` makes of it, whoever else edits it meanwhile. Raises BadKeys, OSError."""
        with self._locked():
            ring, made = edit(self._read())
            replace_file(self.path, encode_ring(ring))
        return made

    def _read(self) -> KeyRing:
        try:
            return decode_ring(self.path.read_bytes())
        except FileNotFoundError:
            return KeyRing()

    def _look(self) -> _Stamp:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def keys_of(root: Path) -> KeyStore:
    """The key store of a data directory."""
    return KeyStore(root / "keys.json")
