"""SHAKE-256 as circuits need it: long data goes in piece by piece, one endless stream comes out, piece by piece.

Compiled by numba, where the interpreter stays free and several streams are squeezed at once; else OpenSSL's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives import hashes
from numpy.typing import NDArray

from forms.machine_code import is_available

_RATE = 136
# OpenSSL's keeps the interpreter to itself: about 3 ms at a time.
_PIECE_WORDS = 2**17


class Squeezed(Protocol):
    """The stream of a sponge that takes nothing more in."""

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""

    def fill(self, words: NDArray[np.uint64]) -> None:
        """The next words of eight bytes, little-endian, as many as `words` (n,) has room for."""


class Sponge(Protocol):
    """SHAKE-256 that is taking in."""

    def update(self, data: NDArray[np.uint8]) -> None:
        """Take in `data` (n,)."""

    def squeezed(self) -> Squeezed:
        """Begin the stream of what was taken in so far."""


def open_sponge() -> Sponge:
    """An empty sponge, the faster of those that this host has."""
    return CompiledSponge() if is_available() else OpenSslSponge()


class OpenSslSponge:
    def __init__(self) -> None:
        self._sponge = hashes.XOFHash(hashes.SHAKE256(digest_size=sys.maxsize))

    def update(self, data: NDArray[np.uint8]) -> None:
        self._sponge.update(np.ascontiguousarray(data).data)

    def squeezed(self) -> Squeezed:
        # A squeezed sponge takes no more input and a copy goes its own way: this one is never squeezed.
        return _OpenSslSqueezed(self._sponge.copy())


class _OpenSslSqueezed:
    def __init__(self, sponge: hashes.XOFHash) -> None:
        self._sponge = sponge

    def take(self, length: int) -> bytes:
        return self._sponge.squeeze(length) if length else b""

    def fill(self, words: NDArray[np.uint64]) -> None:
        for start in range(0, len(words), _PIECE_WORDS):
            piece = words[start : start + _PIECE_WORDS]
            piece[:] = np.frombuffer(self.take(8 * len(piece)), "<u8")


class CompiledSponge:
    def __init__(self) -> None:
        self._state = np.zeros(25, np.uint64)
        # What does not fill a block yet.
        self._rest = np.empty(0, np.uint8)

    def update(self, data: NDArray[np.uint8]) -> None:
        from forms.circuits.keccak_stream import absorb

        joined = np.concatenate([self._rest, data])
        whole = len(joined) // _RATE * _RATE
        absorb(self._state, joined[:whole].view("<u8").astype(np.uint64, copy=False))
        self._rest = joined[whole:].copy()

    def squeezed(self) -> Squeezed:
        # FIPS 202 §6.2: the suffix 1111 and the padding's first 1, then its last 1.
        last = np.zeros(_RATE, np.uint8)
        last[: len(self._rest)] = self._rest
        last[len(self._rest)] ^= 0x1F
        last[-1] ^= 0x80
        state = self._state.copy()
        state[: _RATE // 8] ^= last.view("<u8")
        return _CompiledSqueezed(state)


class _CompiledSqueezed:
    """state: before the permutation that gives the next block, once all words of this one are `used`."""

    def __init__(self, state: NDArray[np.uint64]) -> None:
        self.state = state
        self.used = _RATE // 8
        # Bytes of a word of which the others were taken.
        self._ahead = b""

    @property
    def is_at_a_word(self) -> bool:
        return not self._ahead

    def take(self, length: int) -> bytes:
        words = np.empty(-(-max(0, length - len(self._ahead)) // 8), np.uint64)
        self._squeeze(words)
        taken = self._ahead + words.astype("<u8", copy=False).tobytes()
        self._ahead = taken[length:]
        return taken[:length]

    def fill(self, words: NDArray[np.uint64]) -> None:
        if self.is_at_a_word:
            self._squeeze(words)
        else:
            words[:] = np.frombuffer(self.take(8 * len(words)), "<u8")

    def _squeeze(self, words: NDArray[np.uint64]) -> None:
        from forms.circuits.keccak_stream import squeeze

        self.used = int(squeeze(self.state, self.used, words))


def fill_together(streams: Sequence[Squeezed], words: NDArray[np.uint64], counts: Sequence[int]) -> None:
    """Fill `words` with the next `counts` of each stream, one stream's behind the other's.

    Compiled ones are squeezed side by side, unless one stands amid a word. A stream may be there once only.
    """
    starts = np.cumsum([0, *counts])
    compiled = [one for one in streams if isinstance(one, _CompiledSqueezed) and one.is_at_a_word]
    if 1 < len(compiled) == len(streams):
        _squeeze_together(compiled, words, starts[:-1], np.array(counts, np.int64))
    else:
        for stream, start, count in zip(streams, starts, counts, strict=False):
            stream.fill(words[start : start + count])


def _squeeze_together(
    streams: Sequence[_CompiledSqueezed],
    words: NDArray[np.uint64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    from forms.circuits.keccak_stream import LANES, squeeze_together

    for first in range(0, len(streams), LANES):
        some = streams[first : first + LANES]
        states, used, at, left = np.zeros((LANES, 25), np.uint64), *(np.zeros(LANES, np.int64) for _ in range(3))
        states[: len(some)] = [one.state for one in some]
        used[: len(some)] = [one.used for one in some]
        at[: len(some)], left[: len(some)] = starts[first : first + LANES], counts[first : first + LANES]
        squeeze_together(states, used, words, at, left)
        for one, state, taken in zip(some, states, used.tolist(), strict=False):
            one.state, one.used = state, taken
