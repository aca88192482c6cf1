"""Radix sort of 64-bit numbers: what numba compiles for `cuda-radix-sort` on a CPU. Import it only where numba is.

Least significant digit first, so that equal digits keep their order and every pass is stable. No bounds are checked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forms.machine_code import compiled

DIGIT_BITS = 8
"""Eight passes of 256 places to write at; with 2,048 it took half as long again, for want of cache."""
BUCKETS = 1 << DIGIT_BITS
PASSES = -(-64 // DIGIT_BITS)

Numbers = NDArray[np.uint64]
Places = NDArray[np.uint64]

_DIGIT_BITS, _MASK = np.uint64(DIGIT_BITS), np.uint64(BUCKETS - 1)


@compiled
def count_digits(keys: Numbers) -> NDArray[np.int64]:
    """How often each digit occurs, for each pass: (PASSES, BUCKETS)."""
    counts = np.zeros((PASSES, BUCKETS), np.int64)
    for key in keys:
        for step in range(PASSES):
            counts[step, key & _MASK] += 1
            key >>= _DIGIT_BITS
    return counts


@compiled
def starts_of(counts: NDArray[np.int64]) -> None:
    """Where each bucket begins, in place of how many it has."""
    start = 0
    for bucket in range(BUCKETS):
        count = counts[bucket]
        counts[bucket] = start
        start += count


@compiled
def sort(keys: Numbers) -> Numbers:
    """The numbers in ascending order; what was in `keys` is lost."""
    counts, spare = count_digits(keys), np.empty_like(keys)
    for step in range(PASSES):
        if counts[step].max() == len(keys):
            continue  # all have the same digit here
        starts_of(counts[step])
        shift = _DIGIT_BITS * np.uint64(step)
        for key in keys:
            digit = (key >> shift) & _MASK
            spare[counts[step, digit]] = key
            counts[step, digit] += 1
        keys, spare = spare, keys
    return keys


@compiled
def argsort(keys: Numbers) -> Places:
    """The places of the numbers in ascending order, equals in theirs; what was in `keys` is lost."""
    counts, spare = count_digits(keys), np.empty_like(keys)
    places, spare_places = np.arange(len(keys)).astype(np.uint64), np.empty_like(keys)
    for step in range(PASSES):
        if counts[step].max() == len(keys):
            continue
        starts_of(counts[step])
        shift = _DIGIT_BITS * np.uint64(step)
        for index in range(len(keys)):
            key = keys[index]
            digit = (key >> shift) & _MASK
            spare[counts[step, digit]] = key
            spare_places[counts[step, digit]] = places[index]
            counts[step, digit] += 1
        keys, spare = spare, keys
        places, spare_places = spare_places, places
    return places
