"""BLAKE3 of many short inputs, sixteen side by side: what numba compiles for `cuda-blake3-tree` on a CPU.

Import it only where numba is. For inputs of one chunk, which need no tree; sixteen words, one of each input, lie
together, so that a loop over them becomes one vector instruction. Names as in the BLAKE3 paper. No bounds are checked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forms.machine_code import compiled, inlined

LANES = 16
BLOCK_BYTES = 64
BLOCK_WORDS = 16
CHUNK_BYTES = 1024

Words = NDArray[np.uint32]
Places = NDArray[np.int64]
Four = tuple[np.uint32, np.uint32, np.uint32, np.uint32]

# The workspace, in words: the chaining value, the message, what the compression gives, and the lengths of the blocks.
_MESSAGE, _OUT, _LENGTHS, _END = 8 * LANES, 24 * LANES, 40 * LANES, 41 * LANES

CHUNK_START, CHUNK_END, ROOT = 1, 2, 8
IV = np.array(
    [
        *(0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A),
        *(0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19),
    ],
    np.uint32,
)
_I0, _I1, _I2, _I3 = IV[:4]


@compiled
def turned(word: np.uint32, places: int) -> np.uint32:
    """The word with its bits turned to the right."""
    return np.uint32((word >> np.uint32(places)) | (word << np.uint32(32 - places)))


@compiled
def mix(a: np.uint32, b: np.uint32, c: np.uint32, d: np.uint32, x: np.uint32, y: np.uint32) -> Four:
    """The quarter-round G."""
    a = np.uint32(a + b + x)
    d = turned(np.uint32(d ^ a), 16)
    c = np.uint32(c + d)
    b = turned(np.uint32(b ^ c), 12)
    a = np.uint32(a + b + y)
    d = turned(np.uint32(d ^ a), 8)
    c = np.uint32(c + d)
    return a, turned(np.uint32(b ^ c), 7), c, d


@compiled
def mixed(v: tuple[np.uint32, ...], m: tuple[np.uint32, ...]) -> tuple[np.uint32, ...]:
    """A round: all columns, then all diagonals. v: the words of the state.  m: those of the message in its order."""
    a, e, i, q = mix(v[0], v[4], v[8], v[12], m[0], m[1])
    b, f, j, r = mix(v[1], v[5], v[9], v[13], m[2], m[3])
    c, g, k, s = mix(v[2], v[6], v[10], v[14], m[4], m[5])
    d, h, n, t = mix(v[3], v[7], v[11], v[15], m[6], m[7])
    a, f, k, t = mix(a, f, k, t, m[8], m[9])
    b, g, n, q = mix(b, g, n, q, m[10], m[11])
    c, h, i, r = mix(c, h, i, r, m[12], m[13])
    d, e, j, s = mix(d, e, j, s, m[14], m[15])
    return a, b, c, d, e, f, g, h, i, j, k, n, q, r, s, t


@compiled
def permuted(m: tuple[np.uint32, ...]) -> tuple[np.uint32, ...]:
    """The message as the next round takes it."""
    return m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13], m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8]


@compiled
def eight(w: Words, at: int) -> tuple[np.uint32, ...]:
    """Eight words of one lane."""
    first = w[at], w[at + LANES], w[at + 2 * LANES], w[at + 3 * LANES]
    # numba adds tuples, and cannot unpack them into one another.
    return first + (w[at + 4 * LANES], w[at + 5 * LANES], w[at + 6 * LANES], w[at + 7 * LANES])  # noqa: RUF005


@inlined
def put_eight(w: Words, at: int, p: tuple[np.uint32, ...], q: tuple[np.uint32, ...]) -> None:
    """Eight words of one lane: those of `p` and `q`, each with the other."""
    w[at], w[at + LANES], w[at + 2 * LANES], w[at + 3 * LANES] = p[0] ^ q[0], p[1] ^ q[1], p[2] ^ q[2], p[3] ^ q[3]
    at += 4 * LANES
    w[at], w[at + LANES], w[at + 2 * LANES], w[at + 3 * LANES] = p[4] ^ q[4], p[5] ^ q[5], p[6] ^ q[6], p[7] ^ q[7]


@inlined
def seven_rounds(v: tuple[np.uint32, ...], m: tuple[np.uint32, ...]) -> tuple[np.uint32, ...]:
    """The state after all rounds. v: before.  m: the message."""
    # Six times the same line: as a loop it takes four times as long, since then nothing is a vector (measured).
    v, m = mixed(v, m), permuted(m)
    v, m = mixed(v, m), permuted(m)
    v, m = mixed(v, m), permuted(m)
    v, m = mixed(v, m), permuted(m)
    v, m = mixed(v, m), permuted(m)
    v, m = mixed(v, m), permuted(m)
    return mixed(v, m)


@compiled
def compress(w: Words, counter: np.uint32, flags: np.uint32) -> None:
    """The compression of sixteen blocks, all sixteen words of what it gives."""
    for lane in range(LANES):
        h = eight(w, lane)
        v = h + (_I0, _I1, _I2, _I3, counter, np.uint32(0), w[_LENGTHS + lane], flags)  # noqa: RUF005
        v = seven_rounds(v, eight(w, _MESSAGE + lane) + eight(w, _MESSAGE + 8 * LANES + lane))
        put_eight(w, _OUT + lane, v[:8], v[8:])
        put_eight(w, _OUT + 8 * LANES + lane, v[8:], h)


@compiled
def blake3_chunks(messages: Words, lengths: Places, out: Words) -> None:
    """BLAKE3 of rows that have as many blocks each, up to sixteen, as long as `out` is wide.

    messages: (rows, blocks * 16), zeros behind each end.  lengths: of the rows, in bytes.  out: (rows, any * 16).
    """
    w = np.zeros(_END, np.uint32)
    blocks = messages.shape[1] // BLOCK_WORDS
    for first in range(0, len(messages), LANES):
        together = min(LANES, len(messages) - first)
        for word in range(8):
            for lane in range(LANES):
                w[word * LANES + lane] = IV[word]
        flags = np.uint32(CHUNK_START)
        for block in range(blocks):
            if block:
                compress(w, np.uint32(0), flags)
                flags = np.uint32(0)
                for place in range(8 * LANES):
                    w[place] = w[_OUT + place]
            for lane in range(together):
                for place in range(BLOCK_WORDS):
                    w[_MESSAGE + place * LANES + lane] = messages[first + lane, block * BLOCK_WORDS + place]
                w[_LENGTHS + lane] = min(lengths[first + lane] - block * BLOCK_BYTES, BLOCK_BYTES)
        for given in range(out.shape[1] // BLOCK_WORDS):
            compress(w, np.uint32(given), flags | np.uint32(CHUNK_END | ROOT))
            for lane in range(together):
                for place in range(BLOCK_WORDS):
                    out[first + lane, given * BLOCK_WORDS + place] = w[_OUT + place * LANES + lane]
