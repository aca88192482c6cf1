"""What a tunnel's end is plugged into: a local TCP connection, seen as bytes each way with an end of their own.

Sockets are used bare, without asyncio's buffers: a tunnel counts a byte as delivered when the kernel has taken
it, and holds no more than its window. `memory_pipe` has pipes without a kernel.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol

from transport.address import format_address
from transport.errors import TimedOut, Unreachable
from transport.interface import Address

CONNECT_S = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close sends RST


class Pipe(Protocol):
    """One end of a two-way connection on this machine. Each method raises OSError when the other end has reset it.

    One reader and one writer at a time; `close` and `abort` once neither is at work.
    """

    async def read(self, max_bytes: int) -> bytes:
        """At least one byte, or none once the other end has finished."""

    async def write(self, data: bytes) -> int:
        """Wait until some of `data` is taken; returns how much."""

    async def finish(self) -> None:
        """Say that nothing more will be written (FIN)."""

    def close(self) -> None:
        """Let go of a connection that has ended both ways."""

    def abort(self) -> None:
        """Break the connection, so that the other end notices (RST)."""


class SocketPipe:
    """A connected, non-blocking TCP socket, which it owns."""

    __slots__ = ("_loop", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connected
        # A request of a few bytes must not wait for the acknowledgement of the last one (RFC 896).
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def read(self, max_bytes: int) -> bytes:
        return await self._loop.sock_recv(self._socket, max_bytes)

    async def write(self, data: bytes) -> int:
        while True:
            try:
                return self._socket.send(data)
            except BlockingIOError:
                await self._writable()

    async def finish(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(self._socket, _set_once, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._socket)


def _set_once(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def connect(address: Address, deadline_s: float = CONNECT_S) -> SocketPipe:
    """Connect to a TCP service at an IP literal. Raises Unreachable, TimedOut."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setblocking(False)
    try:
        async with asyncio.timeout(deadline_s):
            await loop.sock_connect(opened, (address.host, address.port))
        return SocketPipe(opened)
    except TimeoutError as error:
        opened.close()
        raise TimedOut(f"no answer from the service at {format_address(address)} in {deadline_s:g} s") from error
    except OSError as error:
        opened.close()
        raise Unreachable(f"cannot connect to the service at {format_address(address)}: {error}") from error
    except BaseException:
        opened.close()
        raise
