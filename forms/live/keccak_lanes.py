"""SHAKE-256 of many inputs, eight side by side: what numba compiles for `cuda-shake-fanout` on a CPU.

Import it only where numba is. Words of one number, one of each of eight states, lie together. No bounds are checked.
"""

from __future__ import annotations

import numpy as np

from forms.keccak import RATE_WORDS, STATE_WORDS, Words, permutation
from forms.machine_code import compiled

LANES = 8

permute = permutation(LANES)


@compiled
def shake256(blocks: Words, out: Words) -> None:
    """SHAKE-256 of rows that have as many blocks each, as long as `out` is wide.

    blocks: (rows, blocks * 17), padded.  out: (rows, words).
    """
    s = np.empty(STATE_WORDS * LANES, np.uint64)
    for first in range(0, len(blocks), LANES):
        together = min(LANES, len(blocks) - first)
        s[:] = 0
        for block in range(0, blocks.shape[1], RATE_WORDS):
            for lane in range(together):
                for place in range(RATE_WORDS):
                    s[place * LANES + lane] ^= blocks[first + lane, block + place]
            permute(s)
        for given in range(0, out.shape[1], RATE_WORDS):
            if given:
                permute(s)
            for lane in range(together):
                for place in range(min(RATE_WORDS, out.shape[1] - given)):
                    out[first + lane, given + place] = s[place * LANES + lane]
