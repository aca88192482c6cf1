"""The simulator that defines the answer: one batch of 64 shots, an operation at a time, on Python's integers.

Lane s is bit s of every value. It is slow (about a microsecond an operation) and stands in where numba is not
installed; everything faster is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from forms.circuits.circuit import BLANK, Circuit
from forms.circuits.kinds import CLIFFORD, TOFFOLI, Kind

ALL = 2**64 - 1


@dataclass(slots=True)
class Machine:
    """The state of one batch. qubits, bits: one 64-lane word each.  phase: lanes whose sign is −1."""

    qubits: list[int]
    bits: list[int]
    phase: int = 0
    toffoli: int = 0
    clifford: int = 0
    # Lanes in which operations act; all of them at first, also where a batch has fewer shots.
    base: int = ALL
    stack: list[int] = field(default_factory=list)


def run(circuit: Circuit, machine: Machine, next_word: Callable[[], int]) -> None:
    """Run every operation of `circuit` on `machine`, taking random words as they are needed."""
    columns = circuit.columns
    rows = zip(
        columns.kind.tolist(),
        columns.q_target.tolist(),
        columns.q_control1.tolist(),
        columns.q_control2.tolist(),
        columns.c_target.tolist(),
        columns.c_condition.tolist(),
        strict=True,
    )
    for number, target, control1, control2, bit, condition in rows:
        kind = Kind(number)
        active = machine.base if condition == BLANK else machine.base & machine.bits[condition]
        machine.toffoli += active.bit_count() if kind in TOFFOLI else 0
        machine.clifford += active.bit_count() if kind in CLIFFORD else 0
        _step(machine, kind, active, (target, control1, control2), bit, next_word)


def _step(
    machine: Machine, kind: Kind, active: int, wires: tuple[int, int, int], bit: int, next_word: Callable[[], int]
) -> None:
    match kind:
        case Kind.NEG | Kind.BIT_INVERT | Kind.BIT_STORE0 | Kind.BIT_STORE1:
            _act_on_bits(machine, kind, active, bit)
        case Kind.X | Kind.Z | Kind.CX | Kind.CZ | Kind.SWAP | Kind.CCX | Kind.CCZ:
            _act_on_qubits(machine, kind, active, wires)
        case Kind.R | Kind.HMR:
            # The word is taken even where no lane is active.
            _measure(machine, active, wires[0], bit if kind is Kind.HMR else None, next_word())
        case Kind.PUSH_CONDITION:
            machine.stack.append(machine.base)
            machine.base = active
        case Kind.POP_CONDITION:
            machine.base = machine.stack.pop() if machine.stack else machine.base
        case Kind.REGISTER | Kind.APPEND_TO_REGISTER | Kind.DEBUG_PRINT:
            pass


def _act_on_bits(machine: Machine, kind: Kind, active: int, bit: int) -> None:
    match kind:
        case Kind.NEG:
            machine.phase ^= active
        case Kind.BIT_INVERT:
            machine.bits[bit] ^= active
        case Kind.BIT_STORE0:
            machine.bits[bit] &= ~active
        case Kind.BIT_STORE1:
            machine.bits[bit] |= active


def _act_on_qubits(machine: Machine, kind: Kind, active: int, wires: tuple[int, int, int]) -> None:
    q = machine.qubits
    target, control1, control2 = wires
    match kind:
        case Kind.X:
            q[target] ^= active
        case Kind.Z:
            machine.phase ^= active & q[target]
        case Kind.CX:
            q[target] ^= active & q[control1]
        case Kind.CZ:
            machine.phase ^= active & q[target] & q[control1]
        case Kind.SWAP:
            difference = (q[target] ^ q[control1]) & active
            q[target] ^= difference
            q[control1] ^= difference
        case Kind.CCX:
            q[target] ^= active & q[control1] & q[control2]
        case Kind.CCZ:
            machine.phase ^= active & q[target] & q[control1] & q[control2]


def _measure(machine: Machine, active: int, target: int, bit: int | None, word: int) -> None:
    """The word is what came out, in each lane, and goes to `bit`; the qubit is 0 afterwards."""
    if bit is not None:
        machine.bits[bit] = (machine.bits[bit] & ~active) ^ (word & active)
    machine.phase ^= machine.qubits[target] & word & active
    machine.qubits[target] &= ~active
