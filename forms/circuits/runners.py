"""Two ways to run batches: the reference, one at a time, and numba's, eight side by side, to the same end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled, reference
from forms.circuits.checks import Cases
from forms.circuits.circuit import Circuit
from forms.circuits.program import Program, lower

# Eight 64-bit words fill two AVX2 registers or one of AVX-512; sixteen gained another third, and doubled the memory.
WIDTH = 8
# Random words of one group of batches; three groups may be in memory at a time.
_MOST_GROUP_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class Final:
    """A batch after its last operation. qubits: (qubits,), bits: (bits,), by their ids in the file.

    Without digests only the registers' bits are there, and 0 for the others.
    """

    toffoli: int
    clifford: int
    phase: int
    qubits: NDArray[np.uint64]
    bits: NDArray[np.uint64]


class Runner(Protocol):
    """Something that runs batches; several threads may call it at once."""

    @property
    def width(self) -> int:
        """How many batches it takes at a time."""

    def run(self, cases: Cases, first: int, random: NDArray[np.uint64]) -> list[Final]:
        """Run as many batches as `random` has rows, `first` and those after it, each from its inputs in `cases`."""


class ReferenceRunner:
    """`reference.run`, a batch at a time."""

    width = 1

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    def run(self, cases: Cases, first: int, random: NDArray[np.uint64]) -> list[Final]:
        """See Runner."""
        return [self._one(cases, first + index, words) for index, words in enumerate(random)]

    def _one(self, cases: Cases, batch: int, words: NDArray[np.uint64]) -> Final:
        machine = reference.Machine([0] * self._circuit.qubits, [0] * self._circuit.bits)
        for index, loads in cases.loads.items():
            register = self._circuit.registers[index]
            for wire, is_bit, word in zip(register.wires, register.is_bit, loads[batch].tolist(), strict=True):
                (machine.bits if is_bit else machine.qubits)[wire] = word
        left = iter(words.tolist())
        reference.run(self._circuit, machine, lambda: next(left))
        qubits, bits = np.array(machine.qubits, np.uint64), np.array(machine.bits, np.uint64)
        return Final(machine.toffoli, machine.clifford, machine.phase, qubits, bits)


class NumbaRunner:
    """The compiled kernels. The lowered program is the circuit's own and serves every run of it."""

    def __init__(self, circuit: Circuit, batches: int, keep_bits: bool) -> None:
        self._circuit = circuit
        self._program: Program = lower(circuit, keep_bits=True) if keep_bits else circuit_program(circuit)
        fits = 8 * WIDTH * max(circuit.words_per_batch, self._program.slots, len(self._program.qubits))
        self.width = WIDTH if batches > 1 and fits <= _MOST_GROUP_BYTES else 1
        self._run = compiled.run(self.width)

    def run(self, cases: Cases, first: int, random: NDArray[np.uint64]) -> list[Final]:
        """See Runner."""
        program, width, used = self._program, self.width, len(random)
        qubits, bits = self._loaded(cases, first, used)
        phase, counted = np.zeros(width, np.uint64), np.zeros(2 * width, np.int64)
        stack = np.zeros((program.stack_depth + 2) * width, np.uint64)
        if used < width:
            # Columns without a batch run on words that nobody looks at.
            random = random[np.arange(width) % used]
        # One kind of array for the kernel, whatever the words came from: numba compiles for each kind anew.
        random.flags.writeable = False
        self._run(program.code, random, qubits.reshape(-1), bits.reshape(-1), phase, counted, stack)
        return [
            self._final(qubits[:, w], bits[:, w], int(phase[w]), (int(counted[w]), int(counted[width + w])))
            for w in range(used)
        ]

    def _loaded(self, cases: Cases, first: int, used: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        program = self._program
        qubits = np.zeros((len(program.qubits), self.width), np.uint64)
        bits = np.zeros((program.slots, self.width), np.uint64)
        for index, loads in cases.loads.items():
            register = self._circuit.registers[index]
            words = loads[first : first + used].T
            is_qubit = ~register.is_bit
            # Of a wire that occurs twice the later word stays, as numpy promises for repeated indices.
            places = np.searchsorted(program.qubits, register.wires[is_qubit])
            qubits[places, :used] = words[is_qubit]
            bits[program.bit_slot[register.wires[register.is_bit]], :used] = words[register.is_bit]
        return qubits, bits

    def _final(
        self, places: NDArray[np.uint64], slots: NDArray[np.uint64], phase: int, counted: tuple[int, int]
    ) -> Final:
        program = self._program
        qubits = np.zeros(self._circuit.qubits, np.uint64)
        qubits[program.qubits] = places
        bits = np.zeros(self._circuit.bits, np.uint64)
        known = np.flatnonzero(program.bit_slot >= 0)
        bits[known] = slots[program.bit_slot[known]]
        return Final(64 * program.toffoli + counted[0], 64 * program.clifford + counted[1], phase, qubits, bits)


_programs: WeakKeyDictionary[Circuit, Program] = WeakKeyDictionary()


def circuit_program(circuit: Circuit) -> Program:
    """Give the program of `circuit` with shared bits, lowered at the first call and kept as long as the circuit."""
    if (program := _programs.get(circuit)) is None:
        # Two threads may both get here: they come to the same program.
        program = _programs[circuit] = lower(circuit)
    return program
