"""The one thread that touches the files of blobs: nothing of the disk, and no hashing, runs on the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from transport.blob_message import PIECE_BYTES
from transport.errors import MeshError

T = TypeVar("T")


class StoreFailed(MeshError):
    """The disk under the store failed; the cause says how."""


class Disk:
    """Does what it is asked to, in that order."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "blobs")

    def close(self) -> None:
        """Wait for what was asked; it is short."""
        self._thread.shutdown()

    def start(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Begin `work`; the result may be awaited or not."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, _translated, work, arguments)
        future.add_done_callback(_look_at)
        return future

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Do `work`. Raises StoreFailed for its OSError."""
        return await self.start(work, *arguments)

    @asynccontextmanager
    async def holding(self, make: Callable[[], T], release: Callable[[T], None]) -> AsyncIterator[T]:
        """What `make` makes, released after everything that was started with it, also when cancelled meanwhile."""
        held: list[T] = []
        try:
            await self.run(lambda: held.append(make()))
            yield held[0]
        finally:
            # Shielded: work that has not begun when its waiter is cancelled would not be done at all.
            await asyncio.shield(self.start(_release, held, release))

    @asynccontextmanager
    async def reading(self, path: Path) -> AsyncIterator[int]:
        """A descriptor of the file."""
        async with self.holding(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), os.close) as file:
            yield file

    async def pieces(self, file: int, offset: int, size: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` to `size`, read one piece ahead. Raises StoreFailed when the file has fewer."""
        ahead = self.start(os.pread, file, min(PIECE_BYTES, size - offset), offset)
        while offset < size:
            data = await ahead
            if not data:
                raise StoreFailed(f"a blob of {size} bytes has lost those after {offset}")
            offset += len(data)
            ahead = self.start(os.pread, file, min(PIECE_BYTES, size - offset), offset)
            yield data


def _translated(work: Callable[..., T], arguments: tuple[object, ...]) -> T:
    try:
        return work(*arguments)
    except OSError as error:
        raise StoreFailed(f"the disk failed: {error}") from error


def _look_at(future: asyncio.Future[T]) -> None:
    """A failure that nobody waited for is met again by whoever goes on with the file."""
    if not future.cancelled():
        future.exception()


def _release(held: list[T], release: Callable[[T], None]) -> None:
    for one in held:
        release(one)
