"""The streams of one bulk lane: opens and accepts them, and is the lane below each.

The end that dialled numbers its streams evenly, the other oddly, each upwards: TCP keeps the order, so a number that
is not the next is a stream of the past.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from transport.bulk.connection import LaneConnection
from transport.bulk.frame import Frame, encode_end, encode_header, encode_reset, record_prefix
from transport.errors import ResetCode, Unreachable
from transport.identity import short
from transport.interface import Peer, RecordKind, Stream, StreamHeader
from transport.record_stream import RecordStream
from transport.switchboard import MAX_STREAMS_PER_PEER
from transport.windows import Windows

logger = logging.getLogger("meshd.transport")


@dataclass(frozen=True, slots=True)
class LaneUses:
    """What a lane feeds. lost: told once, with why, unless we closed it."""

    stream_arrived: Callable[[Stream], None]
    windows: Windows
    lost: Callable[[Lane, str], None]


class Lane:
    """Implements `connection.FrameSink`."""

    def __init__(self, connection: LaneConnection, peer: Peer, is_dialled_here: bool, uses: LaneUses) -> None:
        self._connection = connection
        self._peer = peer
        self._uses = uses
        self._streams: dict[int, RecordStream] = {}
        self._slots = asyncio.Semaphore(MAX_STREAMS_PER_PEER)
        self._next_here = 0 if is_dialled_here else 1
        self._next_from_peer = 1 - self._next_here
        self._streams_of_peer = 0
        self._failure: str | None = None

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def bytes_sent(self) -> int:
        return self._connection.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._connection.bytes_received

    async def open(self, header: StreamHeader) -> Stream:
        """Open a stream, once there are fewer than the peer allows. Raises Unreachable."""
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise Unreachable(self._failure)
        number = self._next_here
        self._next_here += 2
        return self._add(number, header)

    def close(self, reason: str) -> None:
        """End the lane; its streams fail."""
        self._connection.abort()
        self._end(reason)

    # FrameSink

    def frames_received(self, frames: list[Frame]) -> None:
        for frame in frames:
            stream = self._streams.get(frame.stream)
            if stream is not None:
                self._hand_over(stream, frame)
            elif frame.stream >= self._next_from_peer and (frame.stream ^ self._next_from_peer) & 1 == 0:
                self._accept(frame)
            # Else it was on its way when we reset that stream.

    def lost(self, reason: str) -> None:
        if self._failure is None:
            self._end(reason)
            self._uses.lost(self, reason)

    # What the streams ask for

    def send(self, number: int, kind: RecordKind, payload: bytes) -> None:
        self._connection.write(encode_header(number, kind, len(payload)), payload)

    def write(self, number: int, record: bytes, end: bool) -> None:
        if record:
            self._connection.write(record_prefix(number), record)
        if end:
            self._connection.write(encode_end(number))

    def abandon(self, number: int, code: int) -> None:
        self._connection.write(encode_reset(number, code))

    def forget(self, number: int) -> None:
        del self._streams[number]
        if (number ^ self._next_here) & 1 == 0:
            self._slots.release()
        else:
            self._streams_of_peer -= 1

    # Inside

    def _accept(self, frame: Frame) -> None:
        self._next_from_peer = frame.stream + 2
        if frame.code is not None:
            return  # opened and reset before anything was said
        if self._streams_of_peer >= MAX_STREAMS_PER_PEER or not self._uses.windows.has_room(self._peer.node):
            self.abandon(frame.stream, ResetCode.BUSY)
            return
        self._streams_of_peer += 1
        stream = self._add(frame.stream, None)
        self._hand_over(stream, frame)
        if stream.has_header and stream.failure is None:
            self._uses.stream_arrived(stream)

    def _hand_over(self, stream: RecordStream, frame: Frame) -> None:
        if frame.code is not None:
            stream.reset_received(frame.code)
            return
        stream.records_received(() if frame.record is None else (frame.record,), end=frame.record is None)
        if stream.failure is not None:
            logger.warning(
                "bulk stream %d of node %s was cut: %s", frame.stream, short(self._peer.node), stream.failure
            )

    def _add(self, number: int, header: StreamHeader | None) -> RecordStream:
        stream = RecordStream(self._peer, _Below(self, number), self._uses.windows.credit(self._peer.node), header)
        self._streams[number] = stream
        return stream

    def _end(self, reason: str) -> None:
        self._failure = f"bulk lane with node {short(self._peer.node)} ended: {reason}"
        for stream in list(self._streams.values()):
            stream.connection_lost(self._failure)


class _Below:
    """Implements `stream.Lane`."""

    __slots__ = ("_lane", "_number")

    def __init__(self, lane: Lane, number: int) -> None:
        self._lane = lane
        self._number = number

    def send(self, kind: RecordKind, payload: bytes) -> None:
        self._lane.send(self._number, kind, payload)

    def write(self, data: bytes, end: bool) -> None:
        self._lane.write(self._number, data, end)

    def abandon(self, code: int) -> None:
        self._lane.abandon(self._number, code)

    def forget(self) -> None:
        self._lane.forget(self._number)
