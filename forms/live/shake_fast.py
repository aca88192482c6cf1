"""SHAKE-256 of many inputs on all cores of a CPU, by compiled code that hashes eight side by side."""

from __future__ import annotations

import hashlib

import numpy as np

from forms.keccak import RATE
from forms.live.chunked import Bytes, Places, Way, over_chunks
from forms.live.digests import Digests, HashCall
from forms.live.keccak_lanes import shake256

WORD_BYTES = 8


def shake_rows(call: HashCall) -> Digests:
    """The digests of all rows."""
    return over_chunks(call, WAY)


def _many(blocks: Bytes, lengths: Places, width: int) -> Bytes:
    # FIPS 202 §6.2: 1111 behind the input, and 1 at the end of its last block; bits count from the lowest.
    blocks[np.arange(len(blocks)), lengths] = 0x1F
    blocks[:, -1] |= 0x80
    out = np.empty((len(blocks), -(-width // WORD_BYTES)), np.uint64)
    shake256(blocks.view(np.uint64), out)
    return out.view(np.uint8)[:, :width]


def _one(row: memoryview, width: int) -> bytes:
    return hashlib.shake_256(row).digest(width)


WAY = Way(_many, _one, lambda lengths: lengths // RATE + 1, RATE, most_blocks=64, fewest=4)
