"""`cuda-blake3-tree`: BLAKE3 of many inputs at once. Truth: the `blake3` package (extra `cpu-forms`)."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING

from forms.arguments import check_reply
from forms.datum import Datum
from forms.errors import FormFailed
from forms.frame import Body, HeadMeasure, fault_of
from forms.live.digests import (
    REPLY_HEAD,
    Digests,
    HashCall,
    check_shape,
    read_hash_rows,
    read_hash_text,
    write_digests_frame,
    write_digests_text,
)
from forms.rows import Rows

if TYPE_CHECKING:
    from forms.live.blake3_kernel import Blake3Kernel

HEAD = struct.Struct("<4sII")
BLOCK = 64
"""Bytes that BLAKE3 takes or gives per compression."""


class Blake3Tree:
    """Frame: `BSB3`, u32 out_bytes, u32 n, n times a u32 length and bytes."""

    name = "cuda-blake3-tree"
    magic = b"BSB3"
    reply_magic = b"BSR3"

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
            out_bytes, count = fields
            fault = fault_of(check_shape, out_bytes, count)
            check_reply(REPLY_HEAD.size + count * out_bytes, limit_bytes)
            return Body(items=count, fault=fault)

        return HeadMeasure(HEAD, body, limit_bytes)

    def read_frame(self, frame: bytes) -> HashCall:
        _, out_bytes, count = HEAD.unpack_from(frame)
        check_shape(out_bytes, count)
        return HashCall(Rows.framed(frame, HEAD.size, count), out_bytes)

    def write_frame(self, result: Digests) -> bytes:
        return write_digests_frame(self.reply_magic, result)

    def reply_bytes(self, call: HashCall) -> int:
        return REPLY_HEAD.size + len(call.inputs) * call.out_bytes

    def work(self, call: HashCall) -> float:
        """Compressions."""
        squeezed = -(-call.out_bytes // BLOCK) - 1
        return float(call.inputs.total(lambda length: max(1, -(-length // BLOCK)) + squeezed))

    def reference(self, call: HashCall) -> Digests:
        try:
            from blake3 import blake3
        except ImportError as error:
            raise FormFailed("the package blake3 is not installed: install meshd with the extra cpu-forms") from error
        width = call.out_bytes
        return Digests(b"".join([blake3(one).digest(length=width) for one in call.inputs]), width)

    def sample(self, rows: int) -> HashCall:
        """Inputs from nothing to five chunks, digests of more than one compression."""
        return HashCall(Rows.of([bytes([row % 256]) * (700 * row % 5000) for row in range(rows)]), 200)

    def fast(self, call: HashCall) -> Digests:
        """On all cores, sixteen short inputs side by side. Raises ImportError without numba or blake3."""
        from forms.live.blake3_fast import blake3_rows

        return blake3_rows(call)

    @cached_property
    def kernel(self) -> Blake3Kernel:
        from forms.live.blake3_kernel import Blake3Kernel  # numpy: 20 MB that a door need not hold

        return Blake3Kernel()
