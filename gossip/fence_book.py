"""Keeps a node's fences on disk: whoever is promised a lease, or claims, waits here until that cannot be forgotten.

One file of mode 0600, replaced as a whole (fsync of file and folder): a crash leaves the old one or the new one. One
that is not whole was damaged otherwise, and then nobody is promised anything, rather than an old term served again.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from gossip.fence import MAX_FILE_BYTES, Fences
from transport.interface import NodeId
from transport.whole_file import replace_file

logger = logging.getLogger("meshd.gossip")


class FenceBook:
    """One file of fences. Give it to `Grants` as `fences`; `run` is what writes.

    Raises OSError and ProtocolError where the file is there and cannot be read.
    """

    def __init__(self, path: Path, me: NodeId) -> None:
        self._path = path
        self._me = me
        self.fences = _read(path)
        self._saved_version = self.fences.version
        self._is_wanted = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def saved(self) -> None:
        """Wait until the fences as they are now are on disk. Raises OSError when they cannot be written."""
        version = self.fences.version
        if self._saved_version >= version:
            return
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((version, written))
        self._is_wanted.set()
        await written

    def highest_term(self, resource: str) -> int:
        """The last term of `resource` that this node knows of from its disk; 0 for none."""
        return self.fences.get(resource).term

    async def keep_claim(self, resource: str, term: int) -> bool:
        """Have this node's own claim on disk before it is made; whether nobody else got that term here meanwhile.

        Raises OSError.
        """
        if not self.fences.get(resource).admits(term, self._me):
            return False
        self.fences.raise_to(resource, term, self._me)
        await self.saved()
        return True

    async def run(self) -> None:
        """Write whenever somebody waits, until cancelled. Who waits then is cancelled too."""
        try:
            while True:
                await self._is_wanted.wait()
                self._is_wanted.clear()
                await self._write()
        finally:
            for _, written in self._waiting:
                written.cancel()

    async def _write(self) -> None:
        version, content = self.fences.version, self.fences.encode()
        error: OSError | None = None
        try:
            await asyncio.to_thread(replace_file, self._path, content)
            self._saved_version = version
        except OSError as caught:
            error = caught
            logger.error("cannot write %s, so this node grants no leases and makes no claims: %s", self._path, error)
        served = [written for at, written in self._waiting if at <= version and not written.done()]
        self._waiting = [(at, written) for at, written in self._waiting if at > version]
        for written in served:
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(OSError(error.errno, error.strerror))


def _read(path: Path) -> Fences:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 64)
    except FileNotFoundError:
        return Fences()
    return Fences.decode(data, str(path))
