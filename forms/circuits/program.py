"""Lower a circuit to a program for the kernels: what no simulation needs left out, wires renamed so that few are live.

Builders never use a bit's id twice, and a measured bit is read a few operations later: the stock circuit's
1,300,679 bits need one slot. A batch's state then fits into a core's nearest cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled
from forms.circuits.circuit import BLANK, Circuit, Columns
from forms.circuits.failures import CircuitTooLarge
from forms.circuits.kernels import ALL_ONES_SLOT, CLEAR, CONDITIONED, Code, Wires
from forms.circuits.kinds import CLIFFORD, TOFFOLI, Kind

# A condition on the stack costs 64 bytes for eight batches.
MAX_STACK_DEPTH = 2**20

_NO_EFFECT = (Kind.REGISTER, Kind.APPEND_TO_REGISTER, Kind.DEBUG_PRINT)


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernels run. code: (code, a, b, c, d), a row for each instruction.

    qubits: (places,) which qubit lies at each place, ascending.  bit_slot: (bits,) where a bit is at the end, or −1.
    toffoli, clifford: operations that act in every lane always, and are not counted in the loop.
    """

    code: Code
    qubits: NDArray[np.int64]
    bit_slot: NDArray[np.int64]
    slots: int
    stack_depth: int
    toffoli: int
    clifford: int


def lower(circuit: Circuit, *, keep_bits: bool = False) -> Program:
    """Lower `circuit`. keep_bits: give every bit a slot of its own, so that all can be read at the end.

    Raises CircuitTooLarge for conditions that lie deeper than MAX_STACK_DEPTH.
    """
    columns = circuit.columns
    depths = np.empty(len(columns.kind), np.int32)
    deepest = int(compiled.stack_depths()(columns.kind, depths))
    if deepest > MAX_STACK_DEPTH:
        raise CircuitTooLarge(f"{deepest} conditions on the stack: this node takes {MAX_STACK_DEPTH}")
    conditioned = (columns.c_condition != BLANK) | (depths > 0)
    conditioned &= (columns.kind != Kind.PUSH_CONDITION) & (columns.kind != Kind.POP_CONDITION)
    keep = ~np.isin(columns.kind, _NO_EFFECT) & ~((columns.kind == Kind.POP_CONDITION) & (depths == 0))
    operands, clears = _bit_operands(columns, conditioned, keep)
    bit_slot, first_free = _own_slots(circuit, keep_bits)
    last = np.full(len(bit_slot), -1, np.int64)
    compiled.last_uses()(operands, last)
    slots = int(compiled.share_slots()(operands, clears, bit_slot, last, first_free))
    bit_slot[bit_slot >= first_free] = -1
    always = np.bincount(columns.kind[keep & ~conditioned], minlength=len(Kind))
    places, qubits = _places(circuit)
    return Program(
        _with_clears(_instructions(columns, conditioned, operands, places), operands, clears, keep),
        qubits,
        bit_slot,
        slots,
        deepest,
        sum(int(always[kind]) for kind in TOFFOLI),
        sum(int(always[kind]) for kind in CLIFFORD),
    )


def _bit_operands(
    columns: Columns, conditioned: NDArray[np.bool_], keep: NDArray[np.bool_]
) -> tuple[Wires, NDArray[np.uint8]]:
    operands = np.stack([columns.c_condition, columns.c_target], axis=1)
    operands[~keep] = BLANK
    overwrites = np.isin(columns.kind, (Kind.HMR, Kind.BIT_STORE0, Kind.BIT_STORE1)) & ~conditioned
    return operands, overwrites.astype(np.uint8)


def _own_slots(circuit: Circuit, keep_bits: bool) -> tuple[NDArray[np.int64], int]:
    """Slots for the bits that must outlive their last use: those of registers, which are also loaded at the start."""
    if keep_bits:
        return np.arange(1, circuit.bits + 1, dtype=np.int64), circuit.bits + 1
    slots = np.full(circuit.bits, -1, np.int64)
    wires = [register.wires[register.is_bit] for register in circuit.registers]
    own = np.unique(np.concatenate([np.empty(0, np.uint32), *wires]))
    slots[own] = np.arange(1, len(own) + 1)
    return slots, len(own) + 1


def _places(circuit: Circuit) -> tuple[Wires, NDArray[np.int64]]:
    """Leave out the qubits that nothing names: they are 0 from the beginning to the end."""
    is_named = np.zeros(circuit.qubits, np.bool_)
    for column in (circuit.columns.q_target, circuit.columns.q_control1, circuit.columns.q_control2):
        is_named[column[column != BLANK]] = True
    places = np.cumsum(is_named, dtype=np.int64) - 1
    return places.astype(np.uint32), np.flatnonzero(is_named)


def _instructions(columns: Columns, conditioned: NDArray[np.bool_], operands: Wires, places: Wires) -> Code:
    """One instruction for each operation. a, b, c: the qubits; a BIT_* has its bit in a, HMR has it in c."""
    kind = columns.kind
    condition = np.where(operands[:, 0] == BLANK, ALL_ONES_SLOT, operands[:, 0])
    a, b, c = (_place(column, places) for column in (columns.q_target, columns.q_control1, columns.q_control2))
    is_bit_only = (kind >= Kind.BIT_INVERT) & (kind <= Kind.BIT_STORE1)
    a = np.where(is_bit_only, operands[:, 1], a)
    c = np.where(kind == Kind.HMR, operands[:, 1], c)
    code = (kind + conditioned * np.uint8(CONDITIONED)).astype(np.uint8)
    return code, a, b, c, condition.astype(np.uint32)


def _place(column: Wires, places: Wires) -> Wires:
    padded = np.append(places, np.uint32(0))
    return padded[np.minimum(column, len(places))]


def _with_clears(
    instructions: Code,
    operands: Wires,
    clears: NDArray[np.uint8],
    keep: NDArray[np.bool_],
) -> Code:
    before, which = [np.flatnonzero(clears & 1), np.flatnonzero(clears & 2)], (0, 1)
    slots = np.concatenate([operands[at, side] for at, side in zip(before, which, strict=True)])
    positions = np.concatenate(before)
    # The place where the operation before which a slot is cleared will be, once idle operations are left out.
    positions = (np.cumsum(keep) - keep)[positions]
    code = instructions[0][keep]
    a, b, c, d = (column[keep] for column in instructions[1:])
    if not len(positions):
        return code, a, b, c, d
    b, c, d = (np.insert(column, positions, 0) for column in (b, c, d))
    return np.insert(code, positions, CLEAR), np.insert(a, positions, slots), b, c, d
