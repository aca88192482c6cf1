"""The random words of R and HMR, a batch after the other, from one of two sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled
from forms.circuits.circuit import Circuit
from forms.circuits.xof import RngMode, Stream, lfsr_next


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
        count = batches * self._count
        match self._mode:
            case RngMode.SHAKE:
                words = self._stream.take_words(count)
            case RngMode.LFSR:
                words = self._lfsr(count)
        return words.reshape(batches, self._count)

    def _lfsr(self, count: int) -> NDArray[np.uint64]:
        words = np.empty(count, np.uint64)
        if compiled.is_available():
            self._state = int(compiled.fill_lfsr()(np.uint64(self._state), words))
            return words
        for index in range(count):
            self._state, words[index] = lfsr_next(self._state)
        return words
