"""What the hashing forms share: rows of bytes in, rows of digests out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from forms.arguments import MAX_OUT_BYTES, expect_count, hex_rows, read_byte_strings, read_integer
from forms.datum import Datum
from forms.errors import BadArgument, BeyondLimit
from forms.rows import Rows

REPLY_HEAD = struct.Struct("<4sII")
MAX_ROWS = 1 << 24
"""Inputs of a call: each costs the worker an object of its own, also an empty one, which costs the caller nothing."""


@dataclass(frozen=True, slots=True)
class HashCall:
    """inputs: what to hash, in order.  out_bytes: of each digest, 1 to 65,536."""

    inputs: Rows
    out_bytes: int


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of `width` bytes, one after the other."""

    rows: bytes | memoryview
    width: int

    @property
    def count(self) -> int:
        return len(self.rows) // self.width


def read_hash_text(name: str, arguments: list[Datum]) -> HashCall:
    """`'("hex" …) out-bytes`. Raises BadArgument."""
    expect_count(name, arguments, 2, 2)
    return read_hash_rows(name, Rows.of(read_byte_strings(arguments[0])), arguments[1:])


def read_hash_rows(name: str, rows: Rows, rest: list[Datum]) -> HashCall:
    """The same, the list being read. Raises BadArgument."""
    expect_count(name, [[], *rest], 2, 2)
    return HashCall(rows, read_integer(rest[0], "out-bytes", 1, MAX_OUT_BYTES))


def check_shape(out_bytes: int, count: int) -> None:
    """Refuse what a small frame may promise and no host can hold. Raises BadArgument, BeyondLimit."""
    if count > MAX_ROWS:
        raise BeyondLimit(f"{count} inputs in one call; the limit is {MAX_ROWS}: make several calls")
    if not 1 <= out_bytes <= MAX_OUT_BYTES:
        raise BadArgument(f"out_bytes: expected 1 to {MAX_OUT_BYTES}, got {out_bytes}")


def write_digests_text(result: Digests) -> Datum:
    return hex_rows(result.rows, result.width)


def write_digests_frame(magic: bytes, result: Digests) -> bytes:
    """The reply's magic, u32 n, u32 out_bytes, digests."""
    return b"".join((REPLY_HEAD.pack(magic, result.count, result.width), result.rows))


def sample_call(rows: int) -> HashCall:
    """Inputs from nothing to two blocks of SHAKE-256, digests of two."""
    return HashCall(Rows.of([bytes([row]) * (29 * row % 280) for row in range(rows)]), 200)
