"""Pipes inside one process: two ends with a small buffer each way, as a loopback TCP connection has in the kernel.

For tests and simulations of tunnels; they run on the loop's clock.
"""

from __future__ import annotations

import asyncio

CAPACITY_BYTES = 64 << 10


class _Half:
    """One direction. capacity_bytes: what it holds when nobody reads."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._kept = bytearray()
        self._has_ended = False
        self._is_broken = False
        self._changed = asyncio.Event()

    async def read(self, max_bytes: int) -> bytes:
        while not self._kept and not self._has_ended:
            await self._change()
        self._check()
        data = bytes(self._kept[:max_bytes])
        del self._kept[:max_bytes]
        self._changed.set()
        return data

    async def write(self, data: bytes) -> int:
        while len(self._kept) >= self._capacity_bytes:
            await self._change()
        self._check()
        if self._has_ended:
            raise BrokenPipeError("write after finish")
        count = min(len(data), self._capacity_bytes - len(self._kept))
        self._kept += data[:count]
        self._changed.set()
        return count

    def finish(self) -> None:
        self._check()
        self._has_ended = True
        self._changed.set()

    def break_off(self) -> None:
        self._is_broken = True
        self._kept.clear()
        self._changed.set()

    def _check(self) -> None:
        if self._is_broken:
            raise ConnectionResetError("the other end broke the connection")

    async def _change(self) -> None:
        self._check()
        self._changed.clear()
        await self._changed.wait()
        self._check()


class MemoryPipe:
    """Implements `pipe.Pipe`. Made in pairs by `memory_pipes`."""

    def __init__(self, incoming: _Half, outgoing: _Half) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self, max_bytes: int) -> bytes:
        return await self._incoming.read(max_bytes)

    async def write(self, data: bytes) -> int:
        return await self._outgoing.write(data)

    async def finish(self) -> None:
        self._outgoing.finish()

    def close(self) -> None:
        """Both ends see the end of what was written; nothing else is held."""

    def abort(self) -> None:
        self._incoming.break_off()
        self._outgoing.break_off()


def memory_pipes(capacity_bytes: int = CAPACITY_BYTES) -> tuple[MemoryPipe, MemoryPipe]:
    """The two ends of one connection."""
    one, other = _Half(capacity_bytes), _Half(capacity_bytes)
    return MemoryPipe(one, other), MemoryPipe(other, one)
