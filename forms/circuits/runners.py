"""Two ways to run batches: the reference, one at a time, and numba's, eight side by side, to the same end."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled, reference
from forms.circuits.checks import Cases
from forms.circuits.circuit import Circuit
from forms.circuits.program import Program, lower
from forms.circuits.state import Final, final_of, load_rows

# Eight 64-bit words fill two AVX2 registers or one of AVX-512; sixteen gained another third, and doubled the memory.
# Each width is compiled by itself, so there are few.
WIDTHS = (8, 4, 1)
# Random words of one group of batches; three groups may be in memory at a time.
_MOST_GROUP_BYTES = 2**28


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


def width_for(batches: int, most: int) -> int:
    """How many batches to run at a time: one of WIDTHS, as few as hold all of `batches`, and no more than `most`."""
    enough = [width for width in WIDTHS if width >= min(batches, WIDTHS[0])]
    return min(enough[-1], next(width for width in WIDTHS if width <= max(most, 1)))


def group_batches(circuit: Circuit) -> int:
    """How many batches' random words may be in one group."""
    return _MOST_GROUP_BYTES // max(8 * circuit.words_per_batch, 1)


class NumbaRunner:
    """The compiled kernels. The lowered program is the circuit's own and serves every run of it."""

    def __init__(self, circuit: Circuit, width: int, keep_bits: bool) -> None:
        self._circuit = circuit
        self._program: Program = lower(circuit, keep_bits=True) if keep_bits else circuit_program(circuit)
        # A state that fits no group runs a batch at a time.
        wires = max(self._program.slots, len(self._program.qubits))
        self.width = width if 8 * width * wires <= _MOST_GROUP_BYTES else 1
        self._run = compiled.run(self.width)

    def run(self, cases: Cases, first: int, random: NDArray[np.uint64]) -> list[Final]:
        """See Runner."""
        program, width, used = self._program, self.width, len(random)
        qubits, bits = load_rows(self._circuit, program, cases, range(first, first + used), width)
        phase, counted = np.zeros(width, np.uint64), np.zeros(2 * width, np.int64)
        stack = np.zeros((program.stack_depth + 2) * width, np.uint64)
        if used < width:
            # Columns without a batch run on words that nobody looks at.
            random = random[np.arange(width) % used]
        # One kind of array for the kernel, whatever the words came from: numba compiles for each kind anew.
        random.flags.writeable = False
        self._run(program.code, random, qubits.reshape(-1), bits.reshape(-1), phase, counted, stack)
        return [
            final_of(
                self._circuit,
                program,
                (qubits[:, w], bits[:, w]),
                int(phase[w]),
                (int(counted[w]), int(counted[width + w])),
            )
            for w in range(used)
        ]


_programs: WeakKeyDictionary[Circuit, Program] = WeakKeyDictionary()


def circuit_program(circuit: Circuit) -> Program:
    """Give the program of `circuit` with shared bits, lowered at the first call and kept as long as the circuit."""
    if (program := _programs.get(circuit)) is None:
        # Two threads may both get here: they come to the same program.
        program = _programs[circuit] = lower(circuit)
    return program
