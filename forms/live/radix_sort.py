"""`cuda-radix-sort`: sorts unsigned 64-bit numbers, or says their order. Truth: numpy, stable."""

from __future__ import annotations

import struct
import sys
from array import array
from functools import cached_property
from typing import TYPE_CHECKING

from forms.arguments import check_reply, expect_count, read_list, read_symbol, shown
from forms.datum import Datum
from forms.errors import BadArgument
from forms.frame import Body, HeadMeasure, fault_of
from forms.live.sort_call import NUMBER_BYTES, Numbers, Order, SortCall

if TYPE_CHECKING:
    from forms.live.radix_sort_kernel import RadixSortKernel

HEAD = struct.Struct("<4sIQ")
REPLY_HEAD = struct.Struct("<4sQ")


class RadixSort:
    """Frame: `BSRT`, u32 order, u64 n, u64[n]."""

    name = "cuda-radix-sort"
    magic = b"BSRT"
    reply_magic = b"BSRR"

    def read_text(self, arguments: list[Datum]) -> SortCall:
        expect_count(self.name, arguments, 1, 2)
        order = Order.ASCENDING
        if len(arguments) == 2:
            order = Order[read_symbol(arguments[1], "order", [one.name.lower() for one in Order]).upper()]
        return SortCall(order, _numbers(read_list(arguments[0], "integers")))

    def write_text(self, result: Numbers) -> Datum:
        return list(_swapped(array("Q", result)))

    def measure(self, limit_bytes: int) -> HeadMeasure:
        def body(fields: tuple[int, ...]) -> Body:
            order, count = fields
            check_reply(REPLY_HEAD.size + count * NUMBER_BYTES, limit_bytes)
            return Body(length=count * NUMBER_BYTES, fault=fault_of(_order, order))

        return HeadMeasure(HEAD, body, limit_bytes)

    def read_frame(self, frame: bytes) -> SortCall:
        _, order, count = HEAD.unpack_from(frame)
        return SortCall(_order(order), frame[HEAD.size : HEAD.size + count * NUMBER_BYTES])

    def write_frame(self, result: Numbers) -> bytes:
        return REPLY_HEAD.pack(self.reply_magic, len(result) // NUMBER_BYTES) + result

    def reply_bytes(self, call: SortCall) -> int:
        return REPLY_HEAD.size + len(call.numbers)

    def work(self, call: SortCall) -> float:
        """Numbers."""
        return float(len(call.numbers) // NUMBER_BYTES)

    def reference(self, call: SortCall) -> Numbers:
        import numpy  # 20 MB that a node which never sorts need not hold

        numbers = numpy.frombuffer(call.numbers, "<u8")
        match call.order:
            case Order.ASCENDING:
                return numpy.sort(numbers, kind="stable").tobytes()
            case Order.DESCENDING:
                return (~numpy.sort(~numbers, kind="stable")).tobytes()
            case Order.ARGSORT:
                return numpy.argsort(numbers, kind="stable").astype("<u8").tobytes()

    def fast(self, call: SortCall) -> Numbers:
        """By compiled code. Raises ImportError without numba."""
        from forms.live.radix_fast import sort_numbers

        return sort_numbers(call)

    def sample(self, rows: int) -> SortCall:
        """Places are asked for, of numbers that are there twice: they show the order, and that equals keep theirs."""
        different = -(-rows // 2)
        numbers = (bytes(range(251)) * (NUMBER_BYTES * different // 251 + 1))[: NUMBER_BYTES * different]
        return SortCall(Order.ARGSORT, (numbers * 2)[: NUMBER_BYTES * rows])

    @cached_property
    def kernel(self) -> RadixSortKernel:
        from forms.live.radix_sort_kernel import RadixSortKernel  # numpy, as above

        return RadixSortKernel()


def _order(number: int) -> Order:
    try:
        return Order(number)
    except ValueError:
        raise BadArgument(f"order: expected 0 to {max(Order)}, got {number}") from None


def _numbers(items: list[Datum]) -> Numbers:
    wrong = next((item for item in items if type(item) is not int or not 0 <= item < 1 << 64), None)
    if wrong is not None:
        raise BadArgument(f"expected integers from 0 to 2^64-1, got {shown(wrong)}")
    return _swapped(array("Q", items)).tobytes()  # type: ignore[arg-type]


def _swapped(numbers: array[int]) -> array[int]:
    """From this machine's byte order to little-endian, or back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
