"""SHAKE-256 of many inputs, eight side by side: what numba compiles for `cuda-shake-fanout` on a CPU.

Import it only where numba is. The names in `permute` are those of FIPS 202 §3.2: columns a to e, rows 0 to 4; eight
words, one of each state, lie together, so that a loop over them becomes one vector instruction. No bounds are checked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forms.machine_code import compiled

LANES = 8
RATE = 136
RATE_WORDS = RATE // 8
STATE_WORDS = 25

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

_EIGHT, _SIXTY_FOUR = np.uint64(8), np.uint64(64)
_PAD_FIRST, _PAD_LAST = np.uint64(0x1F), np.uint64(0x80 << 56)

# FIPS 202 §3.2.5, from the generator of x^8 + x^6 + x^5 + x^4 + 1.
ROUND_CONSTANTS = np.array(
    [
        *(0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000),
        *(0x000000000000808B, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009),
        *(0x000000000000008A, 0x0000000000000088, 0x0000000080008009, 0x000000008000000A),
        *(0x000000008000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003),
        *(0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A),
        *(0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008),
    ],
    np.uint64,
)


@compiled
def turned(word: np.uint64, places: int) -> np.uint64:
    """The word with its bits turned to the left, from 1 to 63 places."""
    return (word << np.uint64(places)) | (word >> (_SIXTY_FOUR - np.uint64(places)))


@compiled
def put_row(s: Words, at: int, p: np.uint64, q: np.uint64, r: np.uint64, t: np.uint64, u: np.uint64) -> None:
    """χ of one row, written to the state."""
    s[at] = p ^ (~q & r)
    s[at + LANES] = q ^ (~r & t)
    s[at + 2 * LANES] = r ^ (~t & u)
    s[at + 3 * LANES] = t ^ (~u & p)
    s[at + 4 * LANES] = u ^ (~p & q)


@compiled
def get_row(s: Words, at: int) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """One row of the state."""
    return s[at], s[at + LANES], s[at + 2 * LANES], s[at + 3 * LANES], s[at + 4 * LANES]


@compiled
def permute(s: Words) -> None:
    """Keccak-f[1600] of eight states. s: (25 * 8,), word after word, the states side by side."""
    for constant in ROUND_CONSTANTS:
        for lane in range(LANES):
            a0, b0, c0, d0, e0 = get_row(s, lane)
            a1, b1, c1, d1, e1 = get_row(s, lane + 5 * LANES)
            a2, b2, c2, d2, e2 = get_row(s, lane + 10 * LANES)
            a3, b3, c3, d3, e3 = get_row(s, lane + 15 * LANES)
            a4, b4, c4, d4, e4 = get_row(s, lane + 20 * LANES)
            # θ: each column with its neighbours' parities.
            a, b, c = a0 ^ a1 ^ a2 ^ a3 ^ a4, b0 ^ b1 ^ b2 ^ b3 ^ b4, c0 ^ c1 ^ c2 ^ c3 ^ c4
            d, e = d0 ^ d1 ^ d2 ^ d3 ^ d4, e0 ^ e1 ^ e2 ^ e3 ^ e4
            v, w, x = e ^ turned(b, 1), a ^ turned(c, 1), b ^ turned(d, 1)
            y, z = c ^ turned(e, 1), d ^ turned(a, 1)
            # ρ and π choose what comes into a row, and how far turned; then χ. ι follows below.
            p, q, r, t, u = a0 ^ v, turned(b1 ^ w, 44), turned(c2 ^ x, 43), turned(d3 ^ y, 21), turned(e4 ^ z, 14)
            put_row(s, lane, p, q, r, t, u)
            p, q, r = turned(d0 ^ y, 28), turned(e1 ^ z, 20), turned(a2 ^ v, 3)
            put_row(s, lane + 5 * LANES, p, q, r, turned(b3 ^ w, 45), turned(c4 ^ x, 61))
            p, q, r = turned(b0 ^ w, 1), turned(c1 ^ x, 6), turned(d2 ^ y, 25)
            put_row(s, lane + 10 * LANES, p, q, r, turned(e3 ^ z, 8), turned(a4 ^ v, 18))
            p, q, r = turned(e0 ^ z, 27), turned(a1 ^ v, 36), turned(b2 ^ w, 10)
            put_row(s, lane + 15 * LANES, p, q, r, turned(c3 ^ x, 15), turned(d4 ^ y, 56))
            p, q, r = turned(c0 ^ x, 62), turned(d1 ^ y, 55), turned(e2 ^ z, 39)
            put_row(s, lane + 20 * LANES, p, q, r, turned(a3 ^ v, 41), turned(b4 ^ w, 2))
            s[lane] ^= constant


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
