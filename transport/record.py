"""Cuts a stream of bytes into records and back: u32 big-endian payload length, u8 kind, payload.

Knows nothing of credit or of what a record means; `stream` does. Peer bytes pass here first, so length
and kind are checked as soon as a header has arrived and before anything is kept for the payload.
"""

from __future__ import annotations

import struct

from transport.errors import ProtocolError
from transport.interface import MAX_RECORD_BYTES, Record, RecordKind

_HEADER = struct.Struct("!IB")
HEADER_BYTES = _HEADER.size

_KINDS = {int(kind): kind for kind in RecordKind}


def encode_record(kind: RecordKind, payload: bytes) -> bytes:
    """Frame one payload. Raises ValueError when it is larger than `MAX_RECORD_BYTES`."""
    if len(payload) > MAX_RECORD_BYTES:
        raise ValueError(f"a record carries at most {MAX_RECORD_BYTES} bytes, not {len(payload)}: send it in pieces")
    return _HEADER.pack(len(payload), kind) + payload


class RecordReader:
    """Takes bytes as they arrive and gives back whole records.

    Keeps at most one unfinished record and one piece of input, and only bytes that did arrive.
    max_record_bytes: of one payload; less than `MAX_RECORD_BYTES` where a peer has proved nothing yet.
    """

    __slots__ = ("_kept", "_kept_bytes", "_max_record_bytes", "_wanted_bytes")

    def __init__(self, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        self._max_record_bytes = max_record_bytes
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._wanted_bytes = HEADER_BYTES

    @property
    def is_between_records(self) -> bool:
        return not self._kept_bytes

    def feed(self, data: bytes) -> list[Record]:
        """Records that `data` completes, in order. Raises ProtocolError on a length or kind that cannot be."""
        if self._kept_bytes:
            self._keep(data)
            if self._kept_bytes < self._wanted_bytes:
                return []
            data = b"".join(self._kept)
            self._kept.clear()
            self._kept_bytes = 0
        records, rest = self._cut(data)
        if rest < len(data):
            self._keep(data[rest:])
        return records

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)

    def _cut(self, data: bytes) -> tuple[list[Record], int]:
        """Whole records at the front of `data`, and where the rest begins."""
        records: list[Record] = []
        start = 0
        self._wanted_bytes = HEADER_BYTES
        while len(data) - start >= HEADER_BYTES:
            size, number = _HEADER.unpack_from(data, start)
            kind = self._checked(size, number)
            end = start + HEADER_BYTES + size
            if end > len(data):
                self._wanted_bytes = HEADER_BYTES + size
                break
            records.append(Record(kind, data[start + HEADER_BYTES : end]))
            start = end
        return records, start

    def _checked(self, size: int, number: int) -> RecordKind:
        if size > self._max_record_bytes:
            raise ProtocolError(f"expected a record of at most {self._max_record_bytes} bytes, its header says {size}")
        kind = _KINDS.get(number)
        if kind is None:
            raise ProtocolError(f"expected a record kind of {sorted(_KINDS)}, got {number}")
        return kind
