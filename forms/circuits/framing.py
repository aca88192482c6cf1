"""From a file to its records: `QECCOPS1` (raw), `QECCOPSZ` (zstd after the header), and `QECCOPS1` all under zstd.

The last is how large circuits are passed around; the public evaluator wants them unpacked first. What a record
means is not looked at here. Memory grows with the bytes that came, not with the count that a header promises.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from forms.circuits.failures import BadCircuit, CircuitTooLarge

MAGIC_RAW = b"QECCOPS1"
MAGIC_ZSTD = b"QECCOPSZ"
HEADER_BYTES = 16
RECORD_BYTES = 56
# The public evaluator's cap; a node's own is lower.
MAX_OPERATIONS = 4_000_000_000
# 128 MiB; a frame that wants more is refused.
MAX_WINDOW_BYTES = 2**27

_ZSTD_FRAME = b"\x28\xb5\x2f\xfd"
# A run-length block turns 4 bytes into 128 KiB (RFC 8878 §3.1.1.2): so much at a time never becomes more than 32 MiB.
_COMPRESSED_SLICE_BYTES = 1024
_RAW_SLICE_BYTES = 2**20
# About 3.7 MB of records are handed on at a time.
_BLOCK_BYTES = RECORD_BYTES * 2**16


class _Damaged(Exception):
    """The zstd stream cannot be read on; what was read before stands."""


def read_records(file: BinaryIO, max_operations: int) -> tuple[int, Iterator[bytes]]:
    """Read the header of `file`, from its start: the number of records, and the records in blocks of whole ones.

    The iterator reads as it is asked. Raises BadCircuit for a file that is none, CircuitTooLarge for more than
    `max_operations`; the iterator raises BadCircuit where the body ends early or late, after all that was whole.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    header = file.read(HEADER_BYTES)
    if header.startswith(_ZSTD_FRAME):
        file.seek(0)
        header, pieces = _split_header(_unpacked(file))
        return _count(header, (MAGIC_RAW,), max_operations), _blocks(pieces, header)
    count = _count(header, (MAGIC_RAW, MAGIC_ZSTD), max_operations)
    if header.startswith(MAGIC_ZSTD):
        return count, _blocks(_unpacked(file), header)
    expected = HEADER_BYTES + RECORD_BYTES * count
    if size != expected:
        raise BadCircuit(f"length mismatch: got {size} expected {expected} for {count} ops")
    return count, _blocks(_plain(file), header)


def _count(header: bytes, magics: tuple[bytes, ...], max_operations: int) -> int:
    if len(header) < HEADER_BYTES:
        raise BadCircuit(f"too short ({len(header)} bytes): the header alone has {HEADER_BYTES}")
    if header[:8] not in magics:
        raise BadCircuit(f"bad magic {header[:8]!r}: expected {' or '.join(map(repr, magics))}")
    count = int.from_bytes(header[8:], "little")
    if count > MAX_OPERATIONS:
        raise BadCircuit(f"op count {count} exceeds cap {MAX_OPERATIONS}")
    if count > max_operations:
        raise CircuitTooLarge(f"{count} operations, and this node takes {max_operations}")
    return count


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_RAW_SLICE_BYTES):
        yield piece


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """All zstd frames from here to the end of `file`, as one stream."""
    try:
        import zstandard
    except ImportError as missing:
        raise BadCircuit("compressed circuits need zstandard: install meshd-gpu[cpu-forms]") from missing
    context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame = None
    compressed = b""
    while compressed or (compressed := file.read(_COMPRESSED_SLICE_BYTES)):
        frame = frame or context.decompressobj()
        try:
            piece = frame.decompress(compressed)
        except zstandard.ZstdError as error:
            raise _Damaged(str(error)) from error
        compressed = b""
        if frame.eof:
            compressed, frame = frame.unused_data, None
        if piece:
            yield piece
    if frame is not None:
        raise _Damaged("the last zstd frame is not finished")


def _split_header(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    header = b""
    try:
        while len(header) < HEADER_BYTES and (piece := next(pieces, b"")):
            header += piece
    except _Damaged as damage:
        raise BadCircuit(f"the header cannot be unpacked: {damage}") from damage
    return header[:HEADER_BYTES], _chain(header[HEADER_BYTES:], pieces)


def _chain(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _blocks(pieces: Iterator[bytes], header: bytes) -> Iterator[bytes]:
    """Cut `pieces` at records, and end exactly after the last one that `header` promises."""
    count = int.from_bytes(header[8:], "little")
    left, pending, damage = RECORD_BYTES * count, bytearray(), None
    while len(pending) <= left:
        try:
            piece = next(pieces, b"")
        except _Damaged as caught:
            piece, damage = b"", caught
        pending += piece
        # All that is whole goes first: a record at fault before a damaged one is the one reported.
        if len(pending) >= _BLOCK_BYTES or not piece or len(pending) > left:
            whole = min(len(pending), left) // RECORD_BYTES * RECORD_BYTES
            left -= whole
            while whole:
                length = min(whole, _BLOCK_BYTES)
                yield bytes(pending[:length])
                del pending[:length]
                whole -= length
        if not piece:
            break
    _require_end(count - left // RECORD_BYTES, left, bool(pending), damage)


def _require_end(read: int, left: int, has_more: bool, damage: _Damaged | None) -> None:
    if damage is not None:
        raise BadCircuit(f"damaged stream: {damage}", operation=read if left else None) from damage
    if left:
        raise BadCircuit("the body ends here, before the operations that the header promises", operation=read)
    if has_more:
        raise BadCircuit("trailing data after the last operation")
