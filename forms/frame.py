"""Measures frames while they arrive: fixed heads, items of one length, items that each say their own. Pure.

Lengths are checked before anything is kept for them; memory grows with the bytes that came, never with promises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from forms.errors import BadArgument, BeyondLimit

MAGIC_BYTES = 4
U32 = struct.Struct("<I")
SAME_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Body:
    """What follows a head. Either `length` bytes, or `items` times a u32 and as many bytes as it says.

    fault: why the call is refused although its end can be found, so that what comes behind it can be answered.
    """

    length: int = 0
    items: int = 0
    fault: BadArgument | None = None


def fault_of(check: Callable[..., object], *arguments: object) -> BadArgument | None:
    """What `check` finds wrong with them. Raises what else it raises."""
    try:
        check(*arguments)
    except BadArgument as fault:
        return fault
    return None


class HeadMeasure:
    """A `Measure` for a head of fixed length that says what follows.

    head: its layout, magic included.  body: reads the head's fields; raises for what leaves no end to be found.
    fault: the body's, once the head is here.
    """

    def __init__(self, head: struct.Struct, body: Callable[[tuple[int, ...]], Body], limit_bytes: int) -> None:
        self._head = head
        self._read_body = body
        self._limit_bytes = limit_bytes
        self._items_left: int | None = None
        self._end = head.size
        self.fault: BadArgument | None = None

    def advance(self, received: bytearray) -> int:
        if len(received) < self._head.size:
            return self._head.size
        if self._items_left is None:
            _, *fields = self._head.unpack_from(received)
            body = self._read_body(tuple(fields))
            self._items_left, self.fault = body.items, body.fault
            self._end += body.length
            # Each item counts one byte at least beside its length.
            self._check(self._end + body.items * (U32.size + 1))
        self._walk(received)
        return self._end + U32.size * self._items_left

    def _walk(self, received: bytearray) -> None:
        assert self._items_left is not None
        end, left, have = self._end, self._items_left, len(received)
        while left and end + U32.size <= have:
            end += U32.size + U32.unpack_from(received, end)[0]
            left -= 1
            self._check(end + left * U32.size)
        self._end, self._items_left = end, left

    def _check(self, length: int) -> None:
        if length > self._limit_bytes:
            raise BeyondLimit(f"a frame of {length} bytes at least; the limit is {self._limit_bytes}")
