"""One TLS connection as bytes: a short opening from the peer first, then frames; and what we send, gathered.

What the opening has to be is for `opening`, what frames mean for `lane`. The stock protocol of asyncio copies what
arrives four times; lending TLS the buffer that frames are cut from took 64 MB from 300 to 500 MB/s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from transport.bulk.frame import Frame, FrameReader
from transport.bulk.pinning import certificate_node
from transport.errors import MeshError, ProtocolError, Unreachable
from transport.interface import NodeId

PIECE_BYTES = 64 << 10
"""What is ready leaves in pieces of about this size: one call into TLS for many small records."""

STALLED_MS = 15_000
"""A peer that acknowledges nothing for so long is gone, though the QUIC connection lives."""

PROBE_AFTER_S = 10
PROBE_EVERY_S = 3
PROBES = 2


class FrameSink(Protocol):
    """Who takes what an open connection brings."""

    def frames_received(self, frames: list[Frame]) -> None: ...
    def lost(self, reason: str) -> None:
        """The connection ended, not by our `abort`. Called at most once."""


class LaneConnection(asyncio.BufferedProtocol):
    """opening_bytes: how many the peer sends before its first frame.

    opened: gets them; returns who takes the frames, or raises MeshError, which ends the connection.
    """

    def __init__(self, opening_bytes: int, opened: Callable[[LaneConnection, bytes], FrameSink]) -> None:
        self._loop = asyncio.get_running_loop()
        self._opening = bytearray(opening_bytes)
        self._opening_filled = 0
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._reader: FrameReader | None = None
        self._sink: FrameSink | None = None
        self._gathered: list[bytes | memoryview] = []
        self._gathered_bytes = 0
        self._is_over = False
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when frames may pass. Raises MeshError when that will not be."""
        self.bytes_sent = 0
        self.bytes_received = 0

    def peer_node(self) -> NodeId:
        """Whose key the peer has proved to have. Raises ProtocolError."""
        assert self._transport is not None
        certificate = self._transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return certificate_node(certificate or b"")

    def write(self, *parts: bytes) -> None:
        """Send `parts`, in order, with whatever else is written before the loop turns."""
        if self._is_over:
            return
        if not self._gathered:
            self._loop.call_soon(self._flush)
        for part in parts:
            self._gather(part)

    def abort(self) -> None:
        """End the connection at once; nobody here is told."""
        self._is_over = True
        self._sink = None
        self._gathered.clear()
        if self._transport is not None:
            self._transport.abort()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_over:
            self._transport.abort()
            return
        _notice_stalls(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._reader is not None:
            return self._reader.room()
        return memoryview(self._opening)[self._opening_filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_over:
            return
        self.bytes_received += nbytes
        try:
            if self._reader is None:
                self._opening_arrived(nbytes)
            elif frames := self._reader.filled(nbytes):
                assert self._sink is not None
                self._sink.frames_received(frames)
        except MeshError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Unreachable(f"the TCP connection ended: {exc or 'closed by the peer'}"))

    # Inside

    def _opening_arrived(self, size: int) -> None:
        self._opening_filled += size
        if self._opening_filled == len(self._opening):
            self._sink = self._opened(self, bytes(self._opening))
            self._reader = FrameReader()
            if not self.ready.done():
                self.ready.set_result(None)

    def _fail(self, error: MeshError) -> None:
        if self._is_over:
            return
        sink = self._sink
        self.abort()
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # nobody need be waiting for it
        if sink is not None:
            broke = "it broke the protocol: " if isinstance(error, ProtocolError) else ""
            sink.lost(f"{broke}{error}")

    def _gather(self, part: bytes) -> None:
        room = PIECE_BYTES - self._gathered_bytes
        if len(part) < room:
            self._gathered.append(part)
            self._gathered_bytes += len(part)
            return
        view = memoryview(part)
        self._gathered.append(view[:room])
        self._flush()
        while len(part) - room >= PIECE_BYTES:
            self._send(view[room : room + PIECE_BYTES])
            room += PIECE_BYTES
        if room < len(part):
            self._gather(part[room:])

    def _flush(self) -> None:
        if not self._gathered or self._transport is None:
            return
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        self._send(data)

    def _send(self, data: bytes | memoryview) -> None:
        assert self._transport is not None
        self.bytes_sent += len(data)
        self._transport.write(data)


def _notice_stalls(connected: socket.socket) -> None:
    """Let the kernel give up on a path that TCP no longer passes, idle or not."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, PROBE_AFTER_S),
        (socket.TCP_KEEPINTVL, PROBE_EVERY_S),
        (socket.TCP_KEEPCNT, PROBES),
        (socket.TCP_USER_TIMEOUT, STALLED_MS),
    ):
        connected.setsockopt(socket.IPPROTO_TCP, option, value)
