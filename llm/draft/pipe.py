"""Records over a loopback connection between an agent and one of its processes, which shows the agent's key first."""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from transport.errors import ProtocolError, Unreachable
from transport.interface import Record, RecordKind
from transport.record import RecordReader, encode_record

PIECE_BYTES = 64 << 10
MAX_RECORD_BYTES = 80 << 10
CONNECT_S = 5.0


class RecordPipe:
    """One end. Raises Unreachable when the other has gone. Close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._records = RecordReader(MAX_RECORD_BYTES)
        self._ready: deque[Record] = deque()

    async def send(self, record: Record) -> None:
        try:
            self._writer.write(encode_record(record.kind, record.payload))
            await self._writer.drain()
        except OSError as error:
            raise Unreachable(f"a process of this host has gone: {error}") from error

    async def receive(self) -> Record | None:
        """The next record; None once the other end has closed. Raises ProtocolError."""
        while not self._ready:
            try:
                piece = await self._reader.read(PIECE_BYTES)
            except OSError as error:
                raise Unreachable(f"a process of this host has gone: {error}") from error
            if not piece:
                return None
            self._ready.extend(self._records.feed(piece))
        return self._ready.popleft()

    def close(self) -> None:
        """Say that nothing more comes, either way."""
        with suppress(RuntimeError):  # the loop has ended
            self._writer.close()


async def accept(listener: socket.socket) -> AsyncIterator[RecordPipe]:
    """Each connection that comes, until cancelled."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield RecordPipe(*await asyncio.open_connection(sock=connection))


async def connect(host: str, port: int, key: str) -> RecordPipe:
    """Raises Unreachable."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"nobody listens on {host}:{port}: {error}") from error
    pipe = RecordPipe(reader, writer)
    await pipe.send(Record(RecordKind.DATA, key.encode()))
    return pipe


async def check_key(pipe: RecordPipe, key: str) -> None:
    """Read what the other end shows first. Raises ProtocolError, Unreachable."""
    try:
        async with asyncio.timeout(CONNECT_S):
            shown = await pipe.receive()
    except TimeoutError as error:
        raise ProtocolError("a program of this host connected and showed no key") from error
    if shown is None or not hmac.compare_digest(shown.payload, key.encode()):
        raise ProtocolError("a program of this host connected without the key")
