"""What a batch that has run came to: its answers, its phase and its ancillas, in the public evaluator's order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forms.circuits.checks import Cases
from forms.circuits.circuit import Circuit
from forms.circuits.lanes import from_lane, live_mask
from forms.circuits.state import Final


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch came to. Counters are its own, and count lanes without a shot too, as the public evaluator does.

    phase: lanes whose sign is −1.  garbage_qubit: the lowest that is not 0 and in no register, −1 for none.
    qubits_shake, bits_shake: 16 bytes of SHAKE-256 over all final words, hexadecimal; empty without `digests`.
    xof_pos: bytes taken from the stream so far.  reason: the first thing wrong, empty for nothing.
    """

    batch: int
    live: int
    toffoli: int
    clifford: int
    phase: int
    classical_bad: int
    garbage_qubit: int
    qubits_shake: str
    bits_shake: str
    xof_pos: int
    reason: str


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the batches of one run. digests: also hash the final state."""

    circuit: Circuit
    cases: Cases
    digests: bool

    def judge(self, batch: int, final: Final, position: int) -> Batch:
        """Look at a batch's end. position: bytes of the stream taken when its last word was."""
        mask = live_mask(self.cases.shots, batch)
        qubits_shake = _digest(final.qubits) if self.digests else ""
        bits_shake = _digest(final.bits) if self.digests else ""
        wrong = self._wrong_lanes(batch, final) & mask
        garbage, word = self._garbage(final, mask)
        return Batch(
            batch,
            mask.bit_count(),
            final.toffoli,
            final.clifford,
            final.phase,
            wrong.bit_count(),
            garbage,
            qubits_shake,
            bits_shake,
            position,
            self._reason(batch, final, wrong, garbage, word),
        )

    def _register(self, final: Final, index: int) -> NDArray[np.uint64]:
        register = self.circuit.registers[index]
        words = np.empty(register.width, np.uint64)
        words[register.is_bit] = final.bits[register.wires[register.is_bit]]
        words[~register.is_bit] = final.qubits[register.wires[~register.is_bit]]
        return words

    def _wrong_lanes(self, batch: int, final: Final) -> int:
        wrong = np.uint64(0)
        for index, expected in self.cases.expected.items():
            wrong |= np.bitwise_or.reduce(self._register(final, index) ^ expected[batch], initial=np.uint64(0))
        return int(wrong)

    def _garbage(self, final: Final, mask: int) -> tuple[int, int]:
        """The lowest qubit outside all registers that is not 0 in a live lane, with its live lanes; −1 for none."""
        left = final.qubits & np.uint64(mask)
        for register in self.circuit.registers:
            left[register.wires[~register.is_bit]] = 0
        dirty = np.flatnonzero(left)
        return (int(dirty[0]), int(left[dirty[0]])) if len(dirty) else (-1, 0)

    def _reason(self, batch: int, final: Final, wrong: int, garbage: int, word: int) -> str:
        live = live_mask(self.cases.shots, batch)
        if wrong:
            lane = (wrong & -wrong).bit_length() - 1
            got = (hex(from_lane(self._register(final, index), lane)) for index in self.cases.expected)
            wanted = (hex(from_lane(words[batch], lane)) for words in self.cases.expected.values())
            return f"CLASSICAL MISMATCH shot {64 * batch + lane}: got ({','.join(got)}) exp ({','.join(wanted)})"
        if final.phase & live:
            shots = live.bit_count()
            return f"PHASE GARBAGE: global_phase = 0x{final.phase & live:016x} across {shots} live shots (must be 0)"
        return f"ANCILLA GARBAGE: qubit {garbage} = 0x{word:016x} (live shots)" if garbage >= 0 else ""


def _digest(words: NDArray[np.uint64]) -> str:
    return hashlib.shake_256(words.astype("<u8", copy=False).tobytes()).hexdigest(16)
