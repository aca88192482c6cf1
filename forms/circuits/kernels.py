"""Loops that numba compiles: sharing slots among bits, and lfsr's words; `batch_run` has the one that runs batches.

They are plain Python, and run as such too, slowly; `compiled` turns them into machine code, where no bounds are
checked: `program` makes every index, from columns that the loader has checked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from forms.circuits.circuit import BLANK
from forms.circuits.kinds import Kind
from forms.circuits.xof import LFSR_MULTIPLIER

Words = NDArray[np.uint64]
Wires = NDArray[np.uint32]
# A program: (code, a, b, c, d), an instruction a row.
Code = tuple[NDArray[np.uint8], Wires, Wires, Wires, Wires]
# program, random, q, bits, phase, counted, stack: as `batch_run.make_run` says.
Run = Callable[[Code, Words, Words, Words, Words, NDArray[np.int64], Words], None]

# In a program: a kind as it is, acting in all lanes; or with this added, acting where its condition holds.
CONDITIONED = 32
# A bit takes its slot over from another one, and starts at 0.
CLEAR = 17
# This slot holds ones in every lane: the condition of what has none of its own but stands inside a PUSH.
ALL_ONES_SLOT = 0

# Spelt as numbers: in compiled code an enum's member is a look-up.
_PUSH, _POP = 15, 16
assert (Kind.PUSH_CONDITION, Kind.POP_CONDITION) == (_PUSH, _POP)

_MULTIPLIER = np.uint64(LFSR_MULTIPLIER)
_12, _25, _27 = np.uint64(12), np.uint64(25), np.uint64(27)


def stack_depths(kinds: NDArray[np.uint8], depths: NDArray[np.int32]) -> int:
    """Write how many conditions lie on the stack before each operation; return the most there ever are."""
    depth, deepest = 0, 0
    for i in range(len(kinds)):
        depths[i] = depth
        if kinds[i] == _PUSH:
            depth += 1
            deepest = max(deepest, depth)
        elif kinds[i] == _POP and depth > 0:
            depth -= 1
    return deepest


def last_uses(operands: Wires, last: NDArray[np.int64]) -> None:
    """Write which operation is the last to use each bit; bits that none uses keep what is there.

    operands: (n, 2) the bit read as condition and the bit written, BLANK for none.  last: by bit.
    """
    for i in range(len(operands)):
        for which in range(2):
            if operands[i, which] != BLANK:
                last[operands[i, which]] = i


def share_slots(
    operands: Wires, clears: NDArray[np.uint8], slots: NDArray[np.int64], last: NDArray[np.int64], first_free: int
) -> int:
    """Replace bits by slots, of which as many exist as there are bits in use at one time.

    operands: as of `last_uses`; turned into slots in place.  clears: (n,) 1 where the written bit's old value plays no
    part; turned in place into what must be set to 0 before this operation: 1 the condition's slot, 2 the written bit's,
    3 both.  slots: bit -> a slot of its own below `first_free`, or −1; overwritten.  last: of `last_uses`; overwritten.
    Returns the number of slots.
    """
    free = np.empty(len(slots) + 1, np.int64)
    free_count, count = 0, first_free
    for i in range(len(operands)):
        bits = (operands[i, 0], operands[i, 1])
        overwrites = clears[i] != 0
        clears[i] = 0
        for which in range(2):
            bit = bits[which]
            if bit == BLANK:
                continue
            if slots[bit] < 0:
                # A fresh bit that is read, or changed in some lanes only, has to be 0 first.
                if which == 0 or not overwrites:
                    clears[i] += 1 + which
                if free_count > 0:
                    free_count -= 1
                    slots[bit] = free[free_count]
                else:
                    slots[bit] = count
                    count += 1
            operands[i, which] = slots[bit]
        # Both first: what the condition gives free must not become the written bit's.
        for which in range(2):
            bit = bits[which]
            if bit != BLANK and last[bit] == i and slots[bit] >= first_free:
                free[free_count] = slots[bit]
                free_count += 1
                last[bit] = -1
    return count


def fill_lfsr(state: np.uint64, words: Words) -> np.uint64:
    """Fill `words` with the next ones of xorshift64*, and return the state after them."""
    for i in range(len(words)):
        state ^= state >> _12
        state ^= state << _25
        state ^= state >> _27
        words[i] = state * _MULTIPLIER
    return state
