"""Cuts the bytes of a lane into frames: u32 stream number, u32 payload length, u8 kind, payload, all big-endian.

A frame is a record (`transport.record`) behind the number of its stream, or one of two kinds of the lane's own,
which QUIC has below its streams: END says that a stream's direction is over, RESET abandons both, with a code.
Lengths and kinds are checked as soon as a header is there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from transport.errors import ProtocolError
from transport.interface import MAX_RECORD_BYTES, Record, RecordKind

_HEADER = struct.Struct("!IIB")
_NUMBER = struct.Struct("!I")
_CODE = struct.Struct("!I")
HEADER_BYTES = _HEADER.size

END = 16
RESET = 17

READ_BYTES = 256 << 10
"""Room for at least so much is offered to every read."""

_KINDS = {int(kind): kind for kind in RecordKind}


@dataclass(frozen=True, slots=True)
class Frame:
    """What arrived for one stream. record: None when the direction is over.  code: of a reset, which is all then."""

    stream: int
    record: Record | None
    code: int | None = None


def record_prefix(stream: int) -> bytes:
    """What goes before an encoded record."""
    return _NUMBER.pack(stream)


def encode_header(stream: int, kind: RecordKind, length: int) -> bytes:
    """What goes before the payload of a record. Raises ValueError when that is larger than `MAX_RECORD_BYTES`."""
    if length > MAX_RECORD_BYTES:
        raise ValueError(f"a record carries at most {MAX_RECORD_BYTES} bytes, not {length}: send it in pieces")
    return _HEADER.pack(stream, length, kind)


def encode_end(stream: int) -> bytes:
    return _HEADER.pack(stream, 0, END)


def encode_reset(stream: int, code: int) -> bytes:
    return _HEADER.pack(stream, _CODE.size, RESET) + _CODE.pack(code)


class FrameReader:
    """Lends its buffer to whoever reads, and cuts out the frames that are whole.

    Of an unfinished frame it keeps what came. A record's bytes are copied once, out of the buffer.
    """

    __slots__ = ("_buffer", "_filled", "_view")

    def __init__(self) -> None:
        self._buffer = bytearray(HEADER_BYTES + MAX_RECORD_BYTES + READ_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0

    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._view[self._filled :]

    def filled(self, size: int) -> list[Frame]:
        """The frames that `size` more bytes complete. Raises ProtocolError."""
        end = self._filled + size
        frames: list[Frame] = []
        start = 0
        while end - start >= HEADER_BYTES:
            stream, length, kind = _HEADER.unpack_from(self._buffer, start)
            _check(length, kind)
            if end - start < HEADER_BYTES + length:
                break
            start += HEADER_BYTES
            frames.append(_frame(stream, kind, bytes(self._view[start : start + length])))
            start += length
        self._filled = end - start
        if start and self._filled:
            self._view[: self._filled] = self._view[start:end]
        return frames


def _check(length: int, kind: int) -> None:
    limit = MAX_RECORD_BYTES if kind in _KINDS else _CODE.size if kind == RESET else 0
    if kind not in _KINDS and kind not in (END, RESET):
        raise ProtocolError(f"expected a frame kind of {[*sorted(_KINDS), END, RESET]}, got {kind}")
    if length > limit or (kind == RESET and length < limit):
        raise ProtocolError(f"expected a frame of kind {kind} with at most {limit} bytes, its header says {length}")


def _frame(stream: int, kind: int, payload: bytes) -> Frame:
    if kind == END:
        return Frame(stream, None)
    if kind == RESET:
        return Frame(stream, None, _CODE.unpack(payload)[0])
    return Frame(stream, Record(_KINDS[kind], payload))
