"""SHAKE-256 of many inputs, eight side by side: what numba compiles for `cuda-shake-fanout` on a CPU.

Import it only where numba is. Words of one number, one of each of eight states, lie together. No bounds are checked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forms.keccak import RATE, RATE_WORDS, STATE_WORDS, Words, permutation
from forms.machine_code import compiled

LANES = 8

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

_EIGHT = np.uint64(8)
_PAD_FIRST, _PAD_LAST = np.uint64(0x1F), np.uint64(0x80 << 56)

permute = permutation(LANES)


@compiled
def load(data: Bytes, at: int, length: int) -> np.uint64:
    """`length` bytes, 8 at most, as a little-endian word."""
    word = np.uint64(0)
    for place in range(length):
        word |= np.uint64(data[at + place]) << (_EIGHT * np.uint64(place))
    return word


@compiled
def store(word: np.uint64, data: Bytes, at: int, length: int) -> None:
    """The first `length` bytes of a word, 8 at most."""
    for place in range(length):
        data[at + place] = np.uint8((word >> (_EIGHT * np.uint64(place))) & np.uint64(0xFF))


@compiled
def absorb(s: Words, lane: int, data: Bytes, at: int, left: int) -> None:
    """Take in the next block, padded where it is the last. left: bytes of the input from `at` on."""
    whole = min(left // 8, RATE_WORDS)
    for place in range(whole):
        s[place * LANES + lane] ^= load(data, at + 8 * place, 8)
    if left < RATE:
        rest = left - 8 * whole
        pad = _PAD_FIRST << (_EIGHT * np.uint64(rest))
        s[whole * LANES + lane] ^= load(data, at + 8 * whole, rest) | pad
        s[(RATE_WORDS - 1) * LANES + lane] ^= _PAD_LAST


@compiled
def squeeze(s: Words, lane: int, out: Bytes, at: int, left: int) -> None:
    """Give the next block, or what is `left` to give."""
    wanted = min(left, RATE)
    for place in range(wanted // 8):
        store(s[place * LANES + lane], out, at + 8 * place, 8)
    whole = wanted // 8
    if wanted > 8 * whole:
        store(s[whole * LANES + lane], out, at + 8 * whole, wanted - 8 * whole)


@compiled
def shake256(data: Bytes, starts: Places, lengths: Places, order: Places, out: Bytes, width: int) -> None:
    """SHAKE-256 of rows of `data`, `width` bytes each, into `out`, in the rows' order.

    order: which rows go side by side; those of like length should, since all eight wait for the longest.
    """
    s = np.empty(STATE_WORDS * LANES, np.uint64)
    squeezes = (width + RATE - 1) // RATE
    for first in range(0, len(order), LANES):
        together = min(LANES, len(order) - first)
        steps = 0
        for lane in range(together):
            steps = max(steps, lengths[order[first + lane]] // RATE + squeezes)
        s[:] = 0
        for step in range(steps):
            for lane in range(together):
                left = lengths[order[first + lane]] - step * RATE
                if left >= 0:
                    absorb(s, lane, data, starts[order[first + lane]] + step * RATE, left)
            permute(s)
            for lane in range(together):
                row = order[first + lane]
                given = (step - lengths[row] // RATE) * RATE
                if 0 <= given < width:
                    squeeze(s, lane, out, row * width + given, width - given)
