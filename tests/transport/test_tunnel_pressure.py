"""A long transfer into a slow reader: what both ends hold stays within their windows from first byte to last."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.transport.tunnels import Pair, memory_pair
from transport.memory_pipe import MemoryPipe, memory_pipes
from transport.resumption import DEFAULT_WINDOW_BYTES
from transport.tunnel_server import TunnelRequest
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

READER_BYTES_PER_S = 1_000_000
TOTAL_BYTES = 10_000_000_000
WARM_UP_BYTES = 20_000_000
PIECE = bytes(256 << 10)


class SlowReader:
    """A service that takes a megabyte a second. rss: of this process, both ends, at every hundredth of the way."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.read_bytes = 0
        self.rss: list[int] = []
        self.done = asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> SlowReader:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._group.__aexit__(None, None, None)

    async def __call__(self, request: TunnelRequest) -> MemoryPipe:
        tunnelled, pipe = memory_pipes(len(PIECE))
        self._group.create_task(self._read(pipe))
        return tunnelled

    async def _read(self, pipe: MemoryPipe) -> None:
        process = psutil.Process()
        start = asyncio.get_running_loop().time()
        while data := await pipe.read(len(PIECE)):
            self.read_bytes += len(data)
            if self.read_bytes > WARM_UP_BYTES + len(self.rss) * self.total_bytes // 100:
                self.rss.append(process.memory_info().rss)
            await asyncio.sleep(start + self.read_bytes / READER_BYTES_PER_S - asyncio.get_running_loop().time())
        await pipe.finish()
        self.done.set()


async def transfer(pair: Pair, reader: SlowReader) -> None:
    """Push zeros through as fast as the tunnel takes them, watching how far the sender is ahead."""
    app, tunnelled = memory_pipes(len(PIECE))
    tunnel = pair.group.create_task(pair.client.carry(tunnelled, pair.to("reader")))
    sent = 0
    while sent < reader.total_bytes:
        sent += await app.write(PIECE[: reader.total_bytes - sent])
        # One window in the tunnel, and what the two connections' own buffers hold.
        assert sent - reader.read_bytes <= DEFAULT_WINDOW_BYTES + 3 * len(PIECE)
    await app.finish()
    assert await app.read(1) == b""
    await tunnel


async def slow_transfer(total_bytes: int) -> tuple[SlowReader, float]:
    async with memory_pair() as pair, SlowReader(total_bytes) as reader:
        pair.offer("reader", reader)
        start = asyncio.get_running_loop().time()
        await transfer(pair, reader)
        return reader, asyncio.get_running_loop().time() - start


@pytest.mark.timeout(900)  # virtual time, but its bytes are moved
async def test_ten_gigabytes_into_a_slow_reader_takes_its_time_and_no_memory() -> None:
    reader, elapsed_s = await slow_transfer(TOTAL_BYTES)
    assert reader.read_bytes == TOTAL_BYTES
    assert elapsed_s >= TOTAL_BYTES / READER_BYTES_PER_S
    # Both ends are in this process; three windows each, and what allocators keep.
    assert max(reader.rss) - reader.rss[0] <= 6 * DEFAULT_WINDOW_BYTES
