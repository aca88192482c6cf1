"""BLAKE3 of many inputs on all cores of a CPU: short ones sixteen side by side, long ones by the library."""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from forms.live.blake3_lanes import BLOCK_BYTES, CHUNK_BYTES, blake3_chunks
from forms.live.chunked import Bytes, Places, Way, over_chunks
from forms.live.digests import Digests, HashCall


def blake3_rows(call: HashCall) -> Digests:
    """The digests of all rows."""
    return over_chunks(call, WAY)


def _many(blocks: Bytes, lengths: Places, width: int) -> Bytes:
    out = np.empty((len(blocks), -(-width // BLOCK_BYTES) * BLOCK_BYTES // 4), np.uint32)
    blake3_chunks(blocks.view(np.uint32), lengths, out)
    return out.view(np.uint8)[:, :width]


def _one(row: memoryview, width: int) -> bytes:
    return blake3(row).digest(length=width)


def _blocks_of(lengths: Places) -> Places:
    return np.maximum(1, -(-lengths // BLOCK_BYTES))


WAY = Way(_many, _one, _blocks_of, BLOCK_BYTES, most_blocks=CHUNK_BYTES // BLOCK_BYTES, fewest=4)
