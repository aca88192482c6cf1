"""Keccak-f[1600] of one state or of several side by side, as machine code. Import it only where numba is.

The names in `permute` are those of FIPS 202 §3.2: columns a to e, rows 0 to 4. Words of the same number, one of each
state, lie together, so that the loop over them becomes one vector instruction. No bounds are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from forms.machine_code import compiled

RATE = 136
"""Bytes that SHAKE-256 takes or gives per permutation (FIPS 202)."""
RATE_WORDS = RATE // 8
STATE_WORDS = 25

Words = NDArray[np.uint64]

_SIXTY_FOUR = np.uint64(64)


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
def put_row(s: Words, at: int, step: int, p: np.uint64, q: np.uint64, r: np.uint64, t: np.uint64, u: np.uint64) -> None:
    """χ of one row, written to the state. step: words from one column to the next."""
    s[at] = p ^ (~q & r)
    s[at + step] = q ^ (~r & t)
    s[at + 2 * step] = r ^ (~t & u)
    s[at + 3 * step] = t ^ (~u & p)
    s[at + 4 * step] = u ^ (~p & q)


@compiled
def get_row(s: Words, at: int, step: int) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """One row of the state."""
    return s[at], s[at + step], s[at + 2 * step], s[at + 3 * step], s[at + 4 * step]


@cache
def permutation(lanes: int) -> Callable[[Words], None]:
    """Keccak-f[1600] of `lanes` states. Its argument: (25 * lanes,), word after word, the states side by side."""

    def permute(s: Words) -> None:
        for constant in ROUND_CONSTANTS:
            for lane in range(lanes):
                a0, b0, c0, d0, e0 = get_row(s, lane, lanes)
                a1, b1, c1, d1, e1 = get_row(s, lane + 5 * lanes, lanes)
                a2, b2, c2, d2, e2 = get_row(s, lane + 10 * lanes, lanes)
                a3, b3, c3, d3, e3 = get_row(s, lane + 15 * lanes, lanes)
                a4, b4, c4, d4, e4 = get_row(s, lane + 20 * lanes, lanes)
                # θ: each column with its neighbours' parities.
                a, b, c = a0 ^ a1 ^ a2 ^ a3 ^ a4, b0 ^ b1 ^ b2 ^ b3 ^ b4, c0 ^ c1 ^ c2 ^ c3 ^ c4
                d, e = d0 ^ d1 ^ d2 ^ d3 ^ d4, e0 ^ e1 ^ e2 ^ e3 ^ e4
                v, w, x = e ^ turned(b, 1), a ^ turned(c, 1), b ^ turned(d, 1)
                y, z = c ^ turned(e, 1), d ^ turned(a, 1)
                # ρ and π choose what comes into a row, and how far turned; then χ. ι follows below.
                p, q, r, t, u = a0 ^ v, turned(b1 ^ w, 44), turned(c2 ^ x, 43), turned(d3 ^ y, 21), turned(e4 ^ z, 14)
                put_row(s, lane, lanes, p, q, r, t, u)
                p, q, r = turned(d0 ^ y, 28), turned(e1 ^ z, 20), turned(a2 ^ v, 3)
                put_row(s, lane + 5 * lanes, lanes, p, q, r, turned(b3 ^ w, 45), turned(c4 ^ x, 61))
                p, q, r = turned(b0 ^ w, 1), turned(c1 ^ x, 6), turned(d2 ^ y, 25)
                put_row(s, lane + 10 * lanes, lanes, p, q, r, turned(e3 ^ z, 8), turned(a4 ^ v, 18))
                p, q, r = turned(e0 ^ z, 27), turned(a1 ^ v, 36), turned(b2 ^ w, 10)
                put_row(s, lane + 15 * lanes, lanes, p, q, r, turned(c3 ^ x, 15), turned(d4 ^ y, 56))
                p, q, r = turned(c0 ^ x, 62), turned(d1 ^ y, 55), turned(e2 ^ z, 39)
                put_row(s, lane + 20 * lanes, lanes, p, q, r, turned(a3 ^ v, 41), turned(b4 ^ w, 2))
                s[lane] ^= constant

    return compiled(permute)
