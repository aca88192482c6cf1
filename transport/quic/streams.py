"""The streams of one admitted connection: opens and accepts them, and is the lane below each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from aioquic.quic.connection import QuicConnection

from transport.errors import ResetCode, Unreachable
from transport.identity import short
from transport.interface import Peer, RecordKind, Stream, StreamHeader
from transport.record import encode_record
from transport.record_stream import RecordStream
from transport.windows import Windows

logger = logging.getLogger("meshd.transport")


class StreamTable:
    """Streams by number.

    limit: how many we have open at most.  touch: called when there is something to transmit.
    arrived: gets every stream a peer opened, with its header.  windows: of the endpoint's streams.
    """

    def __init__(
        self,
        quic: QuicConnection,
        peer: Peer,
        limit: int,
        touch: Callable[[], None],
        arrived: Callable[[Stream], None],
        windows: Windows,
    ) -> None:
        self._quic = quic
        self._peer = peer
        self._touch = touch
        self._arrived = arrived
        self._windows = windows
        self._streams: dict[int, RecordStream] = {}
        self._slots = asyncio.Semaphore(limit)
        self._idle_since = monotonic()
        self._peer_parity = 1 if quic.configuration.is_client else 0
        self._next_from_peer = self._peer_parity if self._peer_parity == 0 else 5  # 1 is the greeting
        self._skipped: set[int] = set()
        self._failure: str | None = None

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def idle_s(self) -> float:
        """For how long there has been no stream; 0 while there is one."""
        return 0.0 if self._streams else monotonic() - self._idle_since

    async def open(self, header: StreamHeader) -> Stream:
        """Open a stream, once the peer has room for one more. Raises Unreachable."""
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise Unreachable(self._failure)
        return self._add(self._quic.get_next_available_stream_id(), header)

    def data_received(self, number: int, data: bytes, end: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if not self._is_new(number):
                return  # what was on its way when we reset it
            if not self._windows.has_room(self._peer.node):
                self.abandon(number, ResetCode.BUSY)
                return
            stream = self._add(number, None)
        had_header = stream.has_header
        stream.data_received(data, end)
        if stream.failure is not None:
            logger.warning("stream %d of node %s was cut: %s", number, short(self._peer.node), stream.failure)
        elif not had_header and stream.has_header:
            self._arrived(stream)

    def reset_received(self, number: int, code: int) -> None:
        """The peer reset its direction, or asked us to stop ours: both mean the stream is over."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.reset_received(code)
        elif self._is_new(number):
            self.abandon(number, code)

    def lost(self, reason: str) -> None:
        self._failure = f"connection with node {short(self._peer.node)} ended: {reason}"
        for stream in list(self._streams.values()):
            stream.connection_lost(self._failure)

    # What lanes ask for

    def write(self, number: int, data: bytes, end: bool) -> None:
        try:
            self._quic.send_stream_data(number, data, end)
        except (RuntimeError, ValueError):
            # aioquic has already reset this stream at the peer's wish; its event to us is still queued.
            return
        self._touch()

    def abandon(self, number: int, code: int) -> None:
        self._quic.reset_stream(number, code)
        try:
            self._quic.stop_stream(number, code)
        except ValueError:
            return  # over at the peer's end already
        finally:
            self._touch()

    def forget(self, number: int) -> None:
        del self._streams[number]
        self._idle_since = monotonic()
        if number & 1 != self._peer_parity:
            self._slots.release()

    # Inside

    def _add(self, number: int, header: StreamHeader | None) -> RecordStream:
        stream = RecordStream(self._peer, _Lane(self, number), self._windows.credit(self._peer.node), header)
        self._streams[number] = stream
        return stream

    def _is_new(self, number: int) -> bool:
        """Whether the peer opens `number` now. Streams may arrive in another order than they were opened."""
        if number & 1 != self._peer_parity or number & 2:
            return False
        if number < self._next_from_peer:
            if number not in self._skipped:
                return False
            self._skipped.remove(number)
            return True
        self._skipped.update(range(self._next_from_peer, number, 4))
        self._next_from_peer = number + 4
        return True


class _Lane:
    """Implements `stream.Lane`."""

    __slots__ = ("_number", "_table")

    def __init__(self, table: StreamTable, number: int) -> None:
        self._table = table
        self._number = number

    def send(self, kind: RecordKind, payload: bytes) -> None:
        self._table.write(self._number, encode_record(kind, payload), False)

    def write(self, data: bytes, end: bool) -> None:
        self._table.write(self._number, data, end)

    def abandon(self, code: int) -> None:
        self._table.abandon(self._number, code)

    def forget(self) -> None:
        self._table.forget(self._number)
