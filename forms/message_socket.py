"""One end of a socket that keeps messages apart, on the event loop: asked once for its events, not for each message."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

MOST_WAITING = 64
"""Messages that came and nobody took; the other end waits while there are so many."""


class MessageSocket:
    """Sends and receives whole messages, of at most `message_bytes`; for one task at a time."""

    def __init__(self, end: socket.socket, message_bytes: int) -> None:
        self._socket = end
        self._message_bytes = message_bytes
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[bytes] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self._is_reading = False
        end.setblocking(False)
        self._read_on()

    async def send(self, message: bytes) -> None:
        """Raises OSError."""
        try:
            self._socket.send(message)
        except BlockingIOError:
            await self._loop.sock_sendall(self._socket, message)

    async def receive(self) -> bytes:
        """The next message. Raises ConnectionError when the other end is closed."""
        while not self._arrived:
            self._wanted = self._loop.create_future()
            await self._wanted
        if not self._arrived[0]:
            raise ConnectionError("its end of the socket is closed")
        message = self._arrived.popleft()
        self._read_on()
        return message

    def close(self) -> None:
        self._pause()
        self._socket.close()

    def _read_on(self) -> None:
        if not self._is_reading and not (self._arrived and not self._arrived[-1]):
            self._loop.add_reader(self._socket, self._take)
            self._is_reading = True

    def _pause(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._socket)
            self._is_reading = False

    def _take(self) -> None:
        """A message is there, or the end, which is an empty one."""
        try:
            message = self._socket.recv(self._message_bytes)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        self._arrived.append(message)
        if not message or len(self._arrived) == MOST_WAITING:
            self._pause()
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
