"""The sort on a device. A GPU's own, CUB's radix sort, is the best that there is, and is used where a device has it.

Our kernels are the same sort written plainly: they run on any device, and say what the answer is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy

from forms.cuda.device import Buffer, Device, SortsNumbers
from forms.live.sort_call import NUMBER_BYTES, Numbers, Order, SortCall

RUN = 256
"""Numbers that one thread counts and places."""
DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS
SHIFTS = range(0, 64, DIGIT_BITS)
NOTHING = numpy.zeros(0, numpy.uint64)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Keys, and what each carries along; nothing where only keys are sorted."""

    keys: Buffer
    values: Buffer


class RadixSortKernel:
    """The kernel of `cuda-radix-sort`."""

    source = Path(__file__).with_name("radix_sort.cu")

    def device_bytes(self, call: SortCall) -> int:
        count = len(call.numbers) // NUMBER_BYTES
        columns = 4 if call.order is Order.ARGSORT else 2
        counts = DIGITS * (-(-count // RUN) + 2)
        return (columns * count + counts) * NUMBER_BYTES

    def run(self, device: Device, call: SortCall) -> Numbers:
        if not call.numbers:
            return b""
        keys = device.upload(call.numbers)
        is_argsort = call.order is Order.ARGSORT
        if isinstance(device, SortsNumbers):
            found = _by_its_own(device, keys, is_argsort)
        else:
            found = self._by_ours(device, keys, len(call.numbers) // NUMBER_BYTES, is_argsort)
        numbers = device.download(found).view(numpy.uint64)
        return (numbers[::-1] if call.order is Order.DESCENDING else numbers).tobytes()

    def _by_ours(self, device: Device, keys: Buffer, count: int, is_argsort: bool) -> Buffer:
        """The keys in order, or their places."""
        carried = numpy.arange(count, dtype=numpy.uint64) if is_argsort else NOTHING
        pairs = Pairs(keys, device.upload(carried))
        spare = Pairs(device.empty(count * NUMBER_BYTES), device.empty(carried.nbytes))
        runs = -(-count // RUN)
        counts = device.empty(DIGITS * runs * NUMBER_BYTES)
        totals, before = device.empty(DIGITS * NUMBER_BYTES), device.empty(DIGITS * NUMBER_BYTES)
        shape = (numpy.uint64(count), numpy.uint64(RUN), numpy.uint64(runs))
        for shift in map(numpy.uint32, SHIFTS):
            device.launch(self.source, "radix_count", runs, [pairs.keys, *shape, shift, counts])
            device.launch(self.source, "radix_add", DIGITS, [counts, numpy.uint64(runs), totals])
            device.launch(self.source, "radix_shift", DIGITS, [totals, before])
            unsorted = (pairs.keys, pairs.values, *shape, shift, counts, before, numpy.uint32(is_argsort))
            device.launch(self.source, "radix_place", runs, [*unsorted, spare.keys, spare.values])
            pairs, spare = spare, pairs
        return pairs.values if is_argsort else pairs.keys


def _by_its_own(device: SortsNumbers, keys: Buffer, is_argsort: bool) -> Buffer:
    if is_argsort:
        return device.argsort(keys)
    device.sort(keys)
    return keys
