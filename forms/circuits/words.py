"""The random words of R and HMR, a batch after the other, from one of two sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled
from forms.circuits.circuit import Circuit
from forms.circuits.xof import RngMode, Stream, fill_from_all, lfsr_leap, lfsr_leapt, lfsr_next


class WordSource:
    """Words in the order in which a circuit's batches take them. stream: with the inputs already taken."""

    def __init__(self, circuit: Circuit, mode: RngMode, stream: Stream) -> None:
        self._count = circuit.words_per_batch
        self._mode = mode
        self._stream = stream
        self._state = circuit.seed.lfsr_state()

    @property
    def position(self) -> int:
        """Bytes of the SHAKE stream taken so far."""
        return self._stream.position

    def take(self, batches: int) -> NDArray[np.uint64]:
        """Draw the words of the next batches: (batches, words a batch)."""
        words = np.empty((batches, self._count), np.uint64)
        self.fill(words.reshape(-1))
        return words

    def fill(self, words: NDArray[np.uint64]) -> None:
        """Draw the next words into `words` (n,): whole batches."""
        match self._mode:
            case RngMode.SHAKE:
                self._stream.fill(words)
            case RngMode.LFSR:
                self._fill_lfsr(words)

    @classmethod
    def fill_all(cls, sources: Sequence[WordSource], words: NDArray[np.uint64], counts: Sequence[int]) -> None:
        """Draw the next `counts` words of each source, all of one mode, one source's behind the other's."""
        if sources and sources[0]._mode is RngMode.SHAKE:
            fill_from_all([source._stream for source in sources], words, counts)
            return
        at = 0
        for source, count in zip(sources, counts, strict=True):
            source.fill(words[at : at + count])
            at += count

    def lfsr_states(self, batches: int) -> NDArray[np.uint64]:
        """Pass over the words of the next batches: (batches,), the state in which each batch's words begin."""
        assert self._mode is RngMode.LFSR
        leap = lfsr_leap(self._count)
        states = []
        for _ in range(batches):
            states.append(self._state)
            self._state = lfsr_leapt(leap, self._state)
        return np.array(states, np.uint64)

    def _fill_lfsr(self, words: NDArray[np.uint64]) -> None:
        if compiled.is_available():
            self._state = int(compiled.fill_lfsr()(np.uint64(self._state), words))
            return
        for index in range(len(words)):
            self._state, words[index] = lfsr_next(self._state)
