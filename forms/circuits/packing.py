"""A program, and the blocks of batches that run it, as the records that `simulate.cu` reads.

One row for each wire: the qubits' places first, then the slots of bits, then what PUSH lays aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forms.circuits.kernels import CLEAR
from forms.circuits.kinds import Kind
from forms.circuits.program import Program

RECORD_BYTES = 16
GROUP_FIELDS = 8
# Of one batch at the end: its phase, and the Toffoli and Clifford operations that were conditioned.
END_FIELDS = 3
ENDS_BYTES = 8 * (GROUP_FIELDS + END_FIELDS)

_KIND = 31
_CONDITION_SHIFT = 6
# No kind: the kernel passes over it.
_NOTHING = 31
# The kernel fetches four while it runs four.
_FETCHED = 4
_BITS_ALONE = (Kind.BIT_INVERT, Kind.BIT_STORE0, Kind.BIT_STORE1, CLEAR)


def rows_of(program: Program) -> int:
    """Words of state that one batch has."""
    return len(program.qubits) + program.slots + program.stack_depth


def records_of(operations: int) -> int:
    """How many records hold so many operations: whole fours, and four that are fetched and not run."""
    return -(-operations // _FETCHED) * _FETCHED + _FETCHED


def pack(program: Program) -> NDArray[np.uint32]:
    """The program as (records, 4) words: kind, CONDITIONED and the condition's row in the first, then a, b, c."""
    code, a, b, c, d = program.code
    places, kind = np.uint32(len(program.qubits)), code & _KIND
    packed = np.zeros((records_of(len(code)), 4), np.uint32)
    packed[len(code) :, 0] = _NOTHING
    used = packed[: len(code)]
    used[:, 0] = ((d + places) << np.uint32(_CONDITION_SHIFT)) | code
    used[:, 1] = a + places * np.isin(kind, _BITS_ALONE)
    used[:, 2] = b
    used[:, 3] = c + places * (kind == Kind.HMR)
    return packed


@dataclass(frozen=True, slots=True)
class Part:
    """Batches of one circuit within a launch. code, words: where its records and its random words begin."""

    program: Program
    code: int
    words: int
    words_a_batch: int
    batches: int


def groups_of(parts: Sequence[Part], lanes: int) -> NDArray[np.uint64]:
    """One row of GROUP_FIELDS for each block of up to `lanes` batches; their states lie one behind the other."""
    groups: list[tuple[int, ...]] = []
    state = 0
    for part in parts:
        rows, stack = rows_of(part.program), len(part.program.qubits) + part.program.slots
        records = records_of(len(part.program.code[0])) - _FETCHED
        for first in range(0, part.batches, lanes):
            words = part.words + first * part.words_a_batch
            used = min(lanes, part.batches - first)
            groups.append((part.code, records, words, part.words_a_batch, state, rows, stack, used))
            state += rows * lanes
    return np.array(groups, np.uint64).reshape(-1, GROUP_FIELDS)
