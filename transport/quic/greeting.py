"""The one stream that a connection has before its peer is admitted: a few small messages each way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from transport.errors import MeshError, ProtocolError
from transport.handshake import MAX_MESSAGE_BYTES
from transport.interface import RecordKind
from transport.record import HEADER_BYTES, RecordReader, encode_record

GREETING_STREAM = 1
"""The first stream that a server may open: it speaks first, so it opens it."""

_MAX_MESSAGES = 2
_MAX_BYTES = _MAX_MESSAGES * (HEADER_BYTES + MAX_MESSAGE_BYTES)


class Greeting:
    """Both ends of it are alike. write: to the stream, with whether that is the end."""

    def __init__(self, write: Callable[[bytes, bool], None]) -> None:
        self._write = write
        self._reader = RecordReader(MAX_MESSAGE_BYTES)
        self._messages: deque[bytes] = deque()
        self._received_bytes = 0
        self.has_ended = False
        self.is_finished = False
        self._failure: MeshError | None = None
        self._changed = asyncio.Event()

    def send(self, message: bytes, end: bool = False) -> None:
        self._write(encode_record(RecordKind.MESSAGE, message), end)

    def finish(self) -> None:
        """Say that all is well here."""
        self.is_finished = True
        self._write(b"", True)

    async def receive(self) -> bytes:
        """The next message. Raises ProtocolError when the stream ends instead, Unreachable when it is lost."""
        await self._until(lambda: bool(self._messages) or self.has_ended)
        if not self._messages:
            raise ProtocolError("expected an admission message, the peer ended the stream")
        return self._messages.popleft()

    def data_received(self, data: bytes, end: bool) -> None:
        """Raises ProtocolError when the peer says more than admission takes."""
        self._received_bytes += len(data)
        if self._received_bytes > _MAX_BYTES:
            raise ProtocolError(f"expected at most {_MAX_BYTES} bytes before admission, got more")
        for record in self._reader.feed(data):
            if record.kind is not RecordKind.MESSAGE or self.has_ended:
                raise ProtocolError(f"expected admission messages only, got {record.kind.name}")
            self._messages.append(record.payload)
        self.has_ended = self.has_ended or end
        self._changed.set()

    def lost(self, error: MeshError) -> None:
        """Nothing more will come; the first reason stands."""
        self._failure = self._failure or error
        self._changed.set()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
