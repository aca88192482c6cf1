"""Where a circuit's inputs and random words come from: SHAKE-256 over its operations, and the xorshift64* of lfsr mode.

The Fiat–Shamir seed of the public evaluator: the domain, the number of operations as u64, then for each the kind
as one byte and six ids, all little-endian: as u64 in version 2, their lower halves in version 1, which evaluators of
before 2026-05-28 have. One stream feeds the inputs and then the words of R and HMR, batch after batch, and is never
rewound.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from forms.circuits.sponge import Squeezed, fill_together, open_sponge

DOMAIN = b"quantum_ecc-fiat-shamir-"

_WORD = 2**64 - 1
# Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016), xorshift64*.
LFSR_MULTIPLIER = 0x2545F4914F6CDD1D
# xorshift never leaves the state 0; a seed of 0 becomes this (the golden ratio's fraction in 64 bits).
LFSR_SEED_FOR_ZERO = 0x9E3779B97F4A7C15


class RngMode(StrEnum):
    """Where the words of R and HMR come from."""

    SHAKE = "shake"
    LFSR = "lfsr"


class SeedVersion(StrEnum):
    """How the operations are hashed."""

    V1 = "v1"
    V2 = "v2"


class Stream:
    """A SHAKE-256 that is squeezed in order, piece by piece. position: bytes taken so far."""

    def __init__(self, squeezed: Squeezed) -> None:
        self._squeezed = squeezed
        self.position = 0

    def take(self, length: int) -> bytes:
        """Squeeze the next `length` bytes."""
        self.position += length
        return self._squeezed.take(length)

    def fill(self, words: NDArray[np.uint64]) -> None:
        """Squeeze as many words of eight bytes, little-endian, as `words` (n,) has room for."""
        self.position += 8 * len(words)
        self._squeezed.fill(words)


def fill_from_all(streams: Sequence[Stream], words: NDArray[np.uint64], counts: Sequence[int]) -> None:
    """Fill `words` with the next `counts` of each stream, one stream's behind the other's: faster than one by one."""
    for stream, count in zip(streams, counts, strict=True):
        stream.position += 8 * count
    fill_together([stream._squeezed for stream in streams], words, counts)


class Seed:
    """The seed of one circuit, taking its operations in. It can start any number of streams."""

    def __init__(self, count: int, version: SeedVersion = SeedVersion.V2) -> None:
        self._version = version
        self._sponge = open_sponge()
        self._sponge.update(np.frombuffer(DOMAIN + version.encode() + count.to_bytes(8, "little"), np.uint8))

    def absorb(self, records: NDArray[np.uint8]) -> None:
        """Take in the next operations. records: (n, 56) as they stand in a file; the padding is left out."""
        ids = records[:, 8:].reshape(-1, 6, 8)
        if self._version is SeedVersion.V1:
            ids = ids[:, :, :4]
        packed = np.empty((len(records), 1 + ids.shape[1] * ids.shape[2]), np.uint8)
        packed[:, 0] = records[:, 0]
        packed[:, 1:].reshape(ids.shape)[:] = ids
        self._sponge.update(packed.reshape(-1))

    def stream(self) -> Stream:
        """Start the stream from its beginning."""
        return Stream(self._sponge.squeezed())

    def lfsr_state(self) -> int:
        """The first state of lfsr mode: the stream's first eight bytes, little-endian."""
        return int.from_bytes(self.stream().take(8), "little") or LFSR_SEED_FOR_ZERO


def lfsr_next(state: int) -> tuple[int, int]:
    """Step xorshift64*: the next state and the word that it gives."""
    state ^= state >> 12
    state = (state ^ (state << 25)) & _WORD
    state ^= state >> 27
    return state, state * LFSR_MULTIPLIER & _WORD


Leap = tuple[int, ...]
"""Many steps of xorshift64* at once: what becomes of each bit of a state. The step is linear over GF(2)."""


def lfsr_leap(steps: int) -> Leap:
    """So many steps as one, by squaring."""
    leap, square = tuple(1 << bit for bit in range(64)), tuple(lfsr_next(1 << bit)[0] for bit in range(64))
    while steps:
        leap = tuple(lfsr_leapt(square, state) for state in leap) if steps & 1 else leap
        square = tuple(lfsr_leapt(square, state) for state in square)
        steps >>= 1
    return leap


def lfsr_leapt(leap: Leap, state: int) -> int:
    """The state after the leap from `state`."""
    after = 0
    while state:
        after ^= leap[(state & -state).bit_length() - 1]
        state &= state - 1
    return after
