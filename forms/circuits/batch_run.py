"""The loop that runs a program on several batches at once, as numba compiles it. Import it only where numba is.

Every wire is `width` words side by side, one a batch, so that decoding an operation is paid once for all, and each
operation is a few vector instructions. Its parts become part of the loop: a call for each operation would cost more
than the operation. The order of the tests below is that of how often kinds come. No bounds are checked: `program` makes
every index, from columns that the loader has checked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forms.circuits.kernels import ALL_ONES_SLOT, CONDITIONED, Code, Run, Words
from forms.circuits.kinds import Kind
from forms.machine_code import inlined

# Spelt as numbers: in compiled code an enum's member is a look-up.
_NEG, _BIT_INVERT, _BIT_STORE0, _BIT_STORE1 = 0, 3, 4, 5
_X, _Z, _CX, _CZ, _SWAP, _R, _HMR, _CCX, _CCZ, _PUSH, _POP = 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
assert (Kind.BIT_STORE1, Kind.X, Kind.CCZ, Kind.POP_CONDITION) == (_BIT_STORE1, _X, _CCZ, _POP)

_ZERO, _ONES = np.uint64(0), np.uint64(2**64 - 1)
_1, _2, _4, _56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
_PAIRS, _NIBBLES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _SUM = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)

Wires = tuple[np.int64, np.int64, np.int64]


class State(NamedTuple):
    """Of all batches, flat. random: (width, words a batch)."""

    q: Words
    bits: Words
    phase: Words
    random: Words


# In all lanes


@inlined
def flip(width: int, kind: int, wires: Wires, q: Words) -> None:
    """CX, X, CCX, SWAP."""
    a, b, c = wires
    if kind == _CX:
        for w in range(width):
            q[a + w] ^= q[b + w]
    elif kind == _X:
        for w in range(width):
            q[a + w] = ~q[a + w]
    elif kind == _CCX:
        for w in range(width):
            q[a + w] ^= q[b + w] & q[c + w]
    else:
        for w in range(width):
            x = q[a + w]
            q[a + w] = q[b + w]
            q[b + w] = x


@inlined
def turn(width: int, kind: int, wires: Wires, q: Words, phase: Words) -> None:
    """CZ, Z, CCZ, NEG."""
    a, b, c = wires
    if kind == _CZ:
        for w in range(width):
            phase[w] ^= q[a + w] & q[b + w]
    elif kind == _Z:
        for w in range(width):
            phase[w] ^= q[a + w]
    elif kind == _CCZ:
        for w in range(width):
            phase[w] ^= q[a + w] & q[b + w] & q[c + w]
    else:
        for w in range(width):
            phase[w] = ~phase[w]


@inlined
def put(width: int, kind: int, a: np.int64, bits: Words) -> None:
    """BIT_INVERT, BIT_STORE1, BIT_STORE0, CLEAR."""
    if kind == _BIT_INVERT:
        for w in range(width):
            bits[a + w] = ~bits[a + w]
    elif kind == _BIT_STORE1:
        for w in range(width):
            bits[a + w] = _ONES
    else:
        for w in range(width):
            bits[a + w] = _ZERO


@inlined
def measure(width: int, wires: Wires, state: State, word: int) -> None:
    """HMR with the random word of that number."""
    q, bits, phase, random = state
    a, _, c = wires
    for w in range(width):
        r = random[w, word]
        bits[c + w] = r
        phase[w] ^= q[a + w] & r
        q[a + w] = _ZERO


@inlined
def reset(width: int, a: np.int64, state: State, word: int) -> None:
    """R, likewise."""
    q, _, phase, random = state
    for w in range(width):
        phase[w] ^= q[a + w] & random[w, word]
        q[a + w] = _ZERO


# In some lanes: the same kinds


@inlined
def flip_where(width: int, kind: int, wires: Wires, q: Words, lanes: Words) -> None:
    """`flip` in the lanes of the first row of `lanes`."""
    a, b, c = wires
    if kind == _X:
        for w in range(width):
            q[a + w] ^= lanes[w]
    elif kind == _CX:
        for w in range(width):
            q[a + w] ^= lanes[w] & q[b + w]
    elif kind == _CCX:
        for w in range(width):
            q[a + w] ^= lanes[w] & q[b + w] & q[c + w]
    else:
        for w in range(width):
            x = (q[a + w] ^ q[b + w]) & lanes[w]
            q[a + w] ^= x
            q[b + w] ^= x


@inlined
def turn_where(width: int, kind: int, wires: Wires, state: State, lanes: Words) -> None:
    """`turn` in the lanes of the first row of `lanes`."""
    q, _, phase, _ = state
    a, b, c = wires
    if kind == _CZ:
        for w in range(width):
            phase[w] ^= lanes[w] & q[a + w] & q[b + w]
    elif kind == _Z:
        for w in range(width):
            phase[w] ^= lanes[w] & q[a + w]
    elif kind == _CCZ:
        for w in range(width):
            phase[w] ^= lanes[w] & q[a + w] & q[b + w] & q[c + w]
    else:
        for w in range(width):
            phase[w] ^= lanes[w]


@inlined
def put_where(width: int, kind: int, a: np.int64, bits: Words, lanes: Words) -> None:
    """`put` in the lanes of the first row of `lanes`."""
    if kind == _BIT_INVERT:
        for w in range(width):
            bits[a + w] ^= lanes[w]
    elif kind == _BIT_STORE1:
        for w in range(width):
            bits[a + w] |= lanes[w]
    else:
        for w in range(width):
            bits[a + w] &= ~lanes[w]


@inlined
def measure_where(width: int, wires: Wires, state: State, word: int, lanes: Words) -> None:
    """`measure` in the lanes of the first row of `lanes`."""
    q, bits, phase, random = state
    a, _, c = wires
    for w in range(width):
        r = random[w, word]
        bits[c + w] = (bits[c + w] & ~lanes[w]) ^ (r & lanes[w])
        phase[w] ^= q[a + w] & r & lanes[w]
        q[a + w] &= ~lanes[w]


@inlined
def reset_where(width: int, a: np.int64, state: State, word: int, lanes: Words) -> None:
    """`reset` in the lanes of the first row of `lanes`."""
    q, _, phase, random = state
    for w in range(width):
        phase[w] ^= q[a + w] & random[w, word] & lanes[w]
        q[a + w] &= ~lanes[w]


@inlined
def count(width: int, kind: int, lanes: Words, counted: NDArray[np.int64]) -> None:
    """Add the lanes of the first row of `lanes` to the Toffoli or the Clifford operations."""
    row = 0 if kind in (_CCX, _CCZ) else width
    for w in range(width):
        # By halves: LLVM knows the pattern and puts one instruction there.
        x = lanes[w]
        x -= (x >> _1) & _PAIRS
        x = (x & _NIBBLES) + ((x >> _2) & _NIBBLES)
        x = (x + (x >> _4)) & _BYTES
        counted[row + w] += np.int64((x * _SUM) >> _56)


def make_run(width: int) -> Run:
    """Make the loop for that many batches at once; a constant width is what lets it be vectorised."""

    def run(
        program: Code, random: Words, q: Words, bits: Words, phase: Words, counted: NDArray[np.int64], stack: Words
    ) -> None:
        """Run a whole program. One table of kinds: what acts in some lanes, taken out as well, costs a fifth more time.

        program: (code, a, b, c, d), a kind's operands by position: target (or HMR's and BIT_*'s as `program` says),
        controls, and d the condition's slot.  random, q, bits, phase: as `State` has them.
        counted: (2 * width,) gets the Toffoli and then the Clifford operations that were conditioned.
        stack: (depth + 2, width) flat; its first row is working space, its second the base.
        """
        code, a_of, b_of, c_of, d_of = program
        state = State(q, bits, phase, random)
        word, base = 0, width
        for w in range(width):
            stack[base + w] = _ONES
            bits[ALL_ONES_SLOT * width + w] = _ONES
        for i in range(len(code)):
            kind = code[i]
            a = np.int64(a_of[i]) * width
            wires = (a, np.int64(b_of[i]) * width, np.int64(c_of[i]) * width)
            if kind in (_CX, _X, _CCX, _SWAP):
                flip(width, kind, wires, q)
            elif kind == _HMR:
                measure(width, wires, state, word)
                word += 1
            elif kind == _R:
                reset(width, a, state, word)
                word += 1
            elif kind == _PUSH:
                d = np.int64(d_of[i]) * width
                for w in range(width):
                    stack[base + width + w] = stack[base + w] & bits[d + w]
                base += width
            elif kind == _POP:
                base -= width
            elif kind < CONDITIONED:
                if kind in (_CZ, _Z, _CCZ, _NEG):
                    turn(width, kind, wires, q, phase)
                else:
                    put(width, kind, a, bits)
            else:
                kind -= CONDITIONED
                d = np.int64(d_of[i]) * width
                for w in range(width):
                    stack[w] = stack[base + w] & bits[d + w]
                if kind >= _CX:
                    count(width, kind, stack, counted)
                if kind == _HMR:
                    measure_where(width, wires, state, word, stack)
                    word += 1
                elif kind == _R:
                    reset_where(width, a, state, word, stack)
                    word += 1
                elif kind in (_CX, _X, _CCX, _SWAP):
                    flip_where(width, kind, wires, q, stack)
                elif kind in (_CZ, _Z, _CCZ, _NEG):
                    turn_where(width, kind, wires, state, stack)
                else:
                    put_where(width, kind, a, bits, stack)

    return run
