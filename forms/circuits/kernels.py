"""The loops that numba compiles: sharing slots among bits, running batches side by side, and lfsr's words.

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

# In a program: a kind as it is, acting in all lanes; or with this added, acting where its condition holds.
CONDITIONED = 32
# A bit takes its slot over from another one, and starts at 0.
CLEAR = 17
# This slot holds ones in every lane: the condition of what has none of its own but stands inside a PUSH.
ALL_ONES_SLOT = 0

# Spelt as numbers: in compiled code an enum's member is a look-up.
_NEG, _BIT_INVERT, _BIT_STORE0, _BIT_STORE1 = 0, 3, 4, 5
_X, _Z, _CX, _CZ, _SWAP, _R, _HMR, _CCX, _CCZ, _PUSH, _POP = 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
assert (Kind.BIT_STORE1, Kind.X, Kind.CCZ, Kind.POP_CONDITION) == (_BIT_STORE1, _X, _CCZ, _POP)

_MULTIPLIER = np.uint64(LFSR_MULTIPLIER)
_ZERO, _ONES = np.uint64(0), np.uint64(2**64 - 1)
_1, _2, _4, _56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
_12, _25, _27 = np.uint64(12), np.uint64(25), np.uint64(27)
_PAIRS, _NIBBLES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _SUM = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)


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


def share_slots(operands: Wires, clears: NDArray[np.uint8], slots: NDArray[np.int64], first_free: int) -> int:
    """Replace bits by slots, of which as many exist as there are bits in use at one time.

    operands: (n, 2) the bit read as condition and the bit written, BLANK for none; turned into slots in place.
    clears: (n,) 1 where the written bit's old value plays no part; turned in place into what must be set to 0
    before this operation: 1 the condition's slot, 2 the written bit's, 3 both.
    slots: bit -> a slot of its own below `first_free`, or −1; overwritten.  Returns the number of slots.
    """
    n = len(operands)
    last = np.full(len(slots), -1, np.int64)
    for i in range(n):
        for which in range(2):
            if operands[i, which] != BLANK:
                last[operands[i, which]] = i
    free = np.empty(len(slots) + 1, np.int64)
    free_count, count = 0, first_free
    for i in range(n):
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


Run = Callable[[Code, Words, Words, Words, Words, NDArray[np.int64], Words], None]


def make_run(width: int) -> Run:
    """Make the loop that runs a program on `width` batches at once; a constant width is what lets it be vectorised.

    Every wire is `width` words side by side, one a batch, so that decoding an operation is paid once for all.
    """

    def run(
        program: Code,
        random: Words,
        q: Words,
        bits: Words,
        phase: Words,
        counted: NDArray[np.int64],
        stack: Words,
    ) -> None:
        """Run a whole program. One long function: a call for each operation would cost more than the operation.

        program: (code, a, b, c, d), a kind's operands by position: target (or HMR's and BIT_*'s as `program` says),
        controls, and d the condition's slot.  random: (width, words a batch).  q, bits, phase: the state, flat.
        counted: (2 * width,) gets the Toffoli and then the Clifford operations that were conditioned.
        stack: (depth + 2, width) flat; its first row is working space, its second the base.
        """
        code, a_of, b_of, c_of, d_of = program
        word = 0
        base = width
        for w in range(width):
            stack[base + w] = _ONES
            bits[ALL_ONES_SLOT * width + w] = _ONES
        for i in range(len(code)):
            kind = code[i]
            a, b = np.int64(a_of[i]) * width, np.int64(b_of[i]) * width
            if kind == _CX:
                for w in range(width):
                    q[a + w] ^= q[b + w]
            elif kind == _X:
                for w in range(width):
                    q[a + w] = ~q[a + w]
            elif kind == _CCX:
                c = np.int64(c_of[i]) * width
                for w in range(width):
                    q[a + w] ^= q[b + w] & q[c + w]
            elif kind == _HMR:
                c = np.int64(c_of[i]) * width
                for w in range(width):
                    r = random[w, word]
                    bits[c + w] = r
                    phase[w] ^= q[a + w] & r
                    q[a + w] = _ZERO
                word += 1
            elif kind == _R:
                for w in range(width):
                    phase[w] ^= q[a + w] & random[w, word]
                    q[a + w] = _ZERO
                word += 1
            elif kind == _SWAP:
                for w in range(width):
                    x = q[a + w]
                    q[a + w] = q[b + w]
                    q[b + w] = x
            elif kind == _CZ:
                for w in range(width):
                    phase[w] ^= q[a + w] & q[b + w]
            elif kind == _Z:
                for w in range(width):
                    phase[w] ^= q[a + w]
            elif kind == _CCZ:
                c = np.int64(c_of[i]) * width
                for w in range(width):
                    phase[w] ^= q[a + w] & q[b + w] & q[c + w]
            elif kind == _NEG:
                for w in range(width):
                    phase[w] = ~phase[w]
            elif kind == _BIT_INVERT:
                for w in range(width):
                    bits[a + w] = ~bits[a + w]
            elif kind == _BIT_STORE1:
                for w in range(width):
                    bits[a + w] = _ONES
            elif kind in (_BIT_STORE0, CLEAR):
                for w in range(width):
                    bits[a + w] = _ZERO
            elif kind == _PUSH:
                d = np.int64(d_of[i]) * width
                for w in range(width):
                    stack[base + width + w] = stack[base + w] & bits[d + w]
                base += width
            elif kind == _POP:
                base -= width
            else:
                kind -= CONDITIONED
                c, d = np.int64(c_of[i]) * width, np.int64(d_of[i]) * width
                for w in range(width):
                    stack[w] = stack[base + w] & bits[d + w]
                if kind >= _CX:
                    counter = 0 if kind in (_CCX, _CCZ) else width
                    for w in range(width):
                        # Lanes, by halves: LLVM knows the pattern and puts one instruction there.
                        x = stack[w]
                        x -= (x >> _1) & _PAIRS
                        x = (x & _NIBBLES) + ((x >> _2) & _NIBBLES)
                        x = (x + (x >> _4)) & _BYTES
                        counted[counter + w] += np.int64((x * _SUM) >> _56)
                if kind == _X:
                    for w in range(width):
                        q[a + w] ^= stack[w]
                elif kind == _CZ:
                    for w in range(width):
                        phase[w] ^= stack[w] & q[a + w] & q[b + w]
                elif kind == _Z:
                    for w in range(width):
                        phase[w] ^= stack[w] & q[a + w]
                elif kind == _CX:
                    for w in range(width):
                        q[a + w] ^= stack[w] & q[b + w]
                elif kind == _CCX:
                    for w in range(width):
                        q[a + w] ^= stack[w] & q[b + w] & q[c + w]
                elif kind == _CCZ:
                    for w in range(width):
                        phase[w] ^= stack[w] & q[a + w] & q[b + w] & q[c + w]
                elif kind == _SWAP:
                    for w in range(width):
                        x = (q[a + w] ^ q[b + w]) & stack[w]
                        q[a + w] ^= x
                        q[b + w] ^= x
                elif kind == _HMR:
                    for w in range(width):
                        r = random[w, word]
                        bits[c + w] = (bits[c + w] & ~stack[w]) ^ (r & stack[w])
                        phase[w] ^= q[a + w] & r & stack[w]
                        q[a + w] &= ~stack[w]
                    word += 1
                elif kind == _R:
                    for w in range(width):
                        phase[w] ^= q[a + w] & random[w, word] & stack[w]
                        q[a + w] &= ~stack[w]
                    word += 1
                elif kind == _NEG:
                    for w in range(width):
                        phase[w] ^= stack[w]
                elif kind == _BIT_INVERT:
                    for w in range(width):
                        bits[a + w] ^= stack[w]
                elif kind == _BIT_STORE0:
                    for w in range(width):
                        bits[a + w] &= ~stack[w]
                elif kind == _BIT_STORE1:
                    for w in range(width):
                        bits[a + w] |= stack[w]

    return run
