"""The sponge of SHAKE-256 over long data, compiled: blocks in, words out, of one state or of several side by side.

Import it only where numba is. States are (25,) words (FIPS 202); `used` counts the words taken of the present block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forms.keccak import RATE_WORDS, STATE_WORDS, Words, permutation
from forms.machine_code import compiled

LANES = 8
"""Streams that are squeezed at once, in five times the time of a single one for the eight."""

Counts = NDArray[np.int64]

_permute_one = permutation(1)
_permute_all = permutation(LANES)


@compiled
def absorb(state: Words, blocks: Words) -> None:
    """Take in whole blocks. blocks: (n * RATE_WORDS,)."""
    for start in range(0, len(blocks), RATE_WORDS):
        for place in range(RATE_WORDS):
            state[place] ^= blocks[start + place]
        _permute_one(state)


@compiled
def squeeze(state: Words, used: int, out: Words) -> int:
    """Fill `out` with the next words. Returns how many of the block are used then."""
    at = 0
    while at < len(out):
        if used == RATE_WORDS:
            _permute_one(state)
            used = 0
        count = min(RATE_WORDS - used, len(out) - at)
        for place in range(count):
            out[at + place] = state[used + place]
        used, at = used + count, at + count
    return used


@compiled
def squeeze_together(states: Words, used: Counts, out: Words, starts: Counts, left: Counts) -> None:
    """Squeeze up to LANES streams at once, each as far as it should go; `states`, `used` and the rest follow.

    states: (LANES, 25).  used, starts, left: (LANES,); a stream's next words go to `out` from its start, `left` many.
    """
    s = np.empty(STATE_WORDS * LANES, np.uint64)
    for lane in range(LANES):
        for place in range(STATE_WORDS):
            s[place * LANES + lane] = states[lane, place]
    going = 1
    while going > 0:
        going = 0
        for lane in range(LANES):
            if left[lane] == 0:
                continue
            count = min(RATE_WORDS - used[lane], left[lane])
            for place in range(count):
                out[starts[lane] + place] = s[(used[lane] + place) * LANES + lane]
            used[lane] += count
            starts[lane] += count
            left[lane] -= count
            going += left[lane] > 0
            if left[lane] == 0:
                # The others go on, and this one's state with them: what it came to is kept here.
                for place in range(STATE_WORDS):
                    states[lane, place] = s[place * LANES + lane]
        if going > 0:
            # Who still wants words has used up its block.
            _permute_all(s)
            for lane in range(LANES):
                if left[lane] > 0:
                    used[lane] = 0
