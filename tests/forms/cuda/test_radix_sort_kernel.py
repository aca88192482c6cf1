"""The sort's kernels: runs that are full and not, equal numbers, both ends of 64 bits, all three orders."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy

from forms.live.radix_sort import RadixSort
from forms.live.sort_call import Order, SortCall
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

DICE = random.Random(8)


def packed(numbers: Sequence[int]) -> bytes:
    return numpy.array(numbers, "<u8").tobytes()


NUMBERS: tuple[list[int], ...] = (
    [],
    [5],
    [2**64 - 1, 0, 2**63, 2**32, 1],
    [DICE.getrandbits(64) for _ in range(256)],
    [DICE.getrandbits(DICE.choice([1, 8, 33, 64])) for _ in range(2500)],
    [7] * 600,
)


class RadixSortCases(KernelCases):
    form = RadixSort()
    shapes = tuple(SortCall(order, packed(numbers)) for numbers in NUMBERS for order in Order)

    def large(self) -> Sequence[SortCall]:
        numbers = DICE.randbytes(8 * 1_000_003)
        few = packed([DICE.getrandbits(4) for _ in range(100_003)])
        return [SortCall(order, data) for data in (numbers, few) for order in Order]


class TestRadixSortKernel(RadixSortCases, KernelSuite):
    pass
