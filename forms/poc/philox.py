"""Philox4x32-10: random words by their number, the same on every array module. Pure.

Written as operations on whole arrays of integers, so that NumPy and CuPy agree by construction: their own generators
do not. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11, gives the constants and the rounds.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy

Array = Any
"""NumPy's or CuPy's: the module is an argument, and no type checker follows that."""

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LANES = 4
_LOW = 0xFFFFFFFF


def philox(
    counter: tuple[Array, Array, Array, Array], key: tuple[int, int], xp: ModuleType = numpy
) -> tuple[Array, ...]:
    """Encrypt 128-bit counters, given as four uint32 arrays of one shape, lowest word first; four like them."""
    c0, c1, c2, c3 = counter
    for number in range(ROUNDS):
        high0, low0 = _product(MULTIPLIERS[0], c0, xp)
        high1, low1 = _product(MULTIPLIERS[1], c2, xp)
        c0, c1, c2, c3 = (
            high1 ^ c1 ^ _round_key(key, 0, number, xp),
            low1,
            high0 ^ c3 ^ _round_key(key, 1, number, xp),
            low0,
        )
    return c0, c1, c2, c3


def words(key: int, start: int, count: int, stream: int = 0, xp: ModuleType = numpy) -> Array:
    """Words `start` to `start + count` of a stream, uint32. key, stream: below 2**64."""
    first, end = start // LANES, -(-(start + count) // LANES)
    return blocks(key, xp.arange(first, end, dtype=xp.uint64), stream, xp).reshape(-1)[start - first * LANES :][:count]


def blocks(key: int, numbers: Array, streams: Array | int, xp: ModuleType = numpy) -> Array:
    """The four words of each block. numbers, streams: uint64, broadcast together.  Result: their shape and (4,)."""
    numbers, streams = xp.broadcast_arrays(numbers, xp.asarray(streams, dtype=xp.uint64))
    counter = (*_halves(numbers, xp), *_halves(streams, xp))
    return xp.stack(philox(counter, (key & _LOW, key >> 32), xp), axis=-1)


def _halves(values: Array, xp: ModuleType) -> tuple[Array, Array]:
    return (values & xp.uint64(_LOW)).astype(xp.uint32), (values >> xp.uint64(32)).astype(xp.uint32)


def _product(multiplier: int, values: Array, xp: ModuleType) -> tuple[Array, Array]:
    low, high = _halves(values.astype(xp.uint64) * xp.uint64(multiplier), xp)
    return high, low


def _round_key(key: tuple[int, int], half: int, number: int, xp: ModuleType) -> Any:
    return xp.uint32((key[half] + number * WEYL[half]) & _LOW)
