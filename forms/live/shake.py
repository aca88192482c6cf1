"""`cuda-shake-fanout`: SHAKE-256 of many inputs at once. Truth: hashlib's."""

from __future__ import annotations

import hashlib
import struct
from functools import cached_property
from typing import TYPE_CHECKING

from forms.arguments import check_reply
from forms.datum import Datum
from forms.frame import SAME_LENGTH, Body, HeadMeasure, fault_of
from forms.live.digests import (
    REPLY_HEAD,
    Digests,
    HashCall,
    check_shape,
    read_hash_rows,
    read_hash_text,
    sample_call,
    write_digests_frame,
    write_digests_text,
)
from forms.rows import Rows

if TYPE_CHECKING:
    from forms.live.shake_kernel import ShakeKernel

HEAD = struct.Struct("<4sIII")
RATE = 136
"""Bytes that SHAKE-256 takes or gives per permutation (FIPS 202)."""


class ShakeFanout:
    """Frame: `BSHK`, u32 out_bytes, u32 n, u32 in_len, inputs; in_len 0xFFFFFFFF: each is a u32 length and bytes."""

    name = "cuda-shake-fanout"
    magic = b"BSHK"
    reply_magic = b"BSHR"

    def read_text(self, arguments: list[Datum]) -> HashCall:
        return read_hash_text(self.name, arguments)

    def read_text_rows(self, rows: Rows, rest: list[Datum]) -> HashCall:
        return read_hash_rows(self.name, rows, rest)

    def text_rows(self, result: Digests) -> tuple[bytes | memoryview, int]:
        return result.rows, result.width

    def write_text(self, result: Digests) -> Datum:
        return write_digests_text(result)

    def measure(self, limit_bytes: int) -> HeadMeasure:
        def body(fields: tuple[int, ...]) -> Body:
            out_bytes, count, in_len = fields
            fault = fault_of(check_shape, out_bytes, count)
            check_reply(REPLY_HEAD.size + count * out_bytes, limit_bytes)
            return Body(items=count, fault=fault) if in_len == SAME_LENGTH else Body(count * in_len, fault=fault)

        return HeadMeasure(HEAD, body, limit_bytes)

    def read_frame(self, frame: bytes) -> HashCall:
        _, out_bytes, count, in_len = HEAD.unpack_from(frame)
        check_shape(out_bytes, count)
        if in_len == SAME_LENGTH:
            return HashCall(Rows.framed(frame, HEAD.size, count), out_bytes)
        return HashCall(Rows.even(frame, in_len, count, HEAD.size), out_bytes)

    def write_frame(self, result: Digests) -> bytes:
        return write_digests_frame(self.reply_magic, result)

    def reply_bytes(self, call: HashCall) -> int:
        return REPLY_HEAD.size + len(call.inputs) * call.out_bytes

    def work(self, call: HashCall) -> float:
        """Permutations of Keccak."""
        squeezed = -(-call.out_bytes // RATE) - 1
        return float(call.inputs.total(lambda length: length // RATE + 1 + squeezed))

    def reference(self, call: HashCall) -> Digests:
        width, shake = call.out_bytes, hashlib.shake_256
        return Digests(b"".join([shake(one).digest(width) for one in call.inputs]), width)

    @cached_property
    def kernel(self) -> ShakeKernel:
        from forms.live.shake_kernel import ShakeKernel  # numpy: 20 MB that a door need not hold

        return ShakeKernel()

    def fast(self, call: HashCall) -> Digests:
        """On all cores, eight inputs side by side. Raises ImportError without numba."""
        from forms.live.shake_fast import shake_rows

        return shake_rows(call)

    def sample(self, rows: int) -> HashCall:
        return sample_call(rows)
