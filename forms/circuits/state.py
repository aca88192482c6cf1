"""Between the wires of a circuit and the rows of its lowered program: what a batch begins with, what it ends with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forms.circuits.checks import Cases
from forms.circuits.circuit import Circuit
from forms.circuits.program import Program


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


def load_rows(
    circuit: Circuit, program: Program, cases: Cases, batches: range, width: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The state in which `batches` begin: (places, width) of qubits and (slots, width) of bits, zeros where none is."""
    qubits = np.zeros((len(program.qubits), width), np.uint64)
    bits = np.zeros((program.slots, width), np.uint64)
    used = len(batches)
    for index, loads in cases.loads.items():
        register = circuit.registers[index]
        words = loads[batches.start : batches.stop].T
        is_qubit = ~register.is_bit
        # Of a wire that occurs twice the later word stays, as numpy promises for repeated indices.
        places = np.searchsorted(program.qubits, register.wires[is_qubit])
        qubits[places, :used] = words[is_qubit]
        bits[program.bit_slot[register.wires[register.is_bit]], :used] = words[register.is_bit]
    return qubits, bits


def final_of(
    circuit: Circuit,
    program: Program,
    rows: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    phase: int,
    counted: tuple[int, int],
) -> Final:
    """The end of one batch. rows: its (places,) qubits and (slots,) bits.  counted: Toffoli, Clifford in the loop."""
    places, slots = rows
    qubits = np.zeros(circuit.qubits, np.uint64)
    qubits[program.qubits] = places
    bits = np.zeros(circuit.bits, np.uint64)
    known = np.flatnonzero(program.bit_slot >= 0)
    bits[known] = slots[program.bit_slot[known]]
    return Final(64 * program.toffoli + counted[0], 64 * program.clifford + counted[1], phase, qubits, bits)
