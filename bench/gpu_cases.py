"""What is measured of each form on a GPU: a frame to answer, and what answering it takes at the least.

The efforts are counted from the algorithms, in instructions of 32 bits as GPUs have them: a rotation is one, a bit
operation on three words is one, a product of two words is two, each with its addition.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

from bench.gpu_rates import Effort
from forms.form import Form
from forms.live.bignum import BignumCgbn
from forms.live.blake3_tree import Blake3Tree
from forms.live.radix_sort import RadixSort
from forms.live.secp256k1 import Secp256k1BatchedMul
from forms.live.shake import ShakeFanout

# theta 80, rho 48, chi 50, iota 2, in each of 24 rounds (FIPS 202).
KECCAK_LOGIC = 24 * 180
# Eight mixings of 12 in each of 7 rounds, and 16 to end with (BLAKE3 §2.2).
BLAKE3_LOGIC = 7 * 8 * 12 + 16
# Eight passes that each read and write a key, and one that counts all digits: the least of a radix sort by bytes.
SORT_BYTES = 8 * 16 + 8
# Montgomery's product of 8 words: 8 x 8 for the product, 8 x 8 and 8 for the reduction.
MOD_MUL_256 = 2 * (64 + 64 + 8)
# A window of 8 bits: 32 additions of an affine point, 8 products and 3 squares each (64 and 36 words), 9 to reduce.
SECP256K1 = 32 * 2 * (8 * (64 + 9) + 3 * (36 + 9))


@dataclass(frozen=True, slots=True)
class Case:
    """name: as published_forms.csv has it.  frame: writes the request of a number of rows.

    figure: from seconds of so many rows, in the published unit.  is_whole: the seconds are of frame to frame, else of
    the kernels alone.  effort: of one row.
    """

    name: str
    form: Form[Any, Any]
    rows: int
    frame: Callable[[int], bytes]
    figure: Callable[[float, int], float]
    effort: Effort
    is_whole: bool = False


def _random(count: int) -> bytes:
    return numpy.random.default_rng(1).bytes(count)


def _shake_frame(rows: int) -> bytes:
    return struct.pack("<4sIII", b"BSHK", 32, rows, 16) + _random(16 * rows)


def _blake3_frame(rows: int, width: int) -> bytes:
    lengths = numpy.full((rows, 1), width, "<u4").view(numpy.uint8)
    body = numpy.frombuffer(_random(rows * width), numpy.uint8).reshape(rows, width)
    return struct.pack("<4sII", b"BSB3", 32, rows) + numpy.hstack([lengths, body]).tobytes()


def _sort_frame(rows: int) -> bytes:
    return struct.pack("<4sIQ", b"BSRT", 0, rows) + _random(8 * rows)


def _mod_mul_frame(rows: int) -> bytes:
    modulus = (2**256 - 189).to_bytes(32, "little")
    return struct.pack("<4sIII", b"BCGB", 5, 256, rows) + modulus + _random(2 * 32 * rows)


def _secp256k1_frame(rows: int) -> bytes:
    return struct.pack("<4sI", b"BSCP", rows) + bytes(64) + _random(32 * rows)


def _milliseconds(seconds: float, rows: int) -> float:
    return 1e3 * seconds


def _rate(scale: float, of_one: float = 1.0) -> Callable[[float, int], float]:
    """Rows a second, or what each of them counts for, in `scale`."""
    return lambda seconds, rows: rows * of_one / seconds / scale


MEGABYTE = 1 << 20
_BLAKE3_MEGABYTE = Effort(bytes=MEGABYTE, logic=BLAKE3_LOGIC * (MEGABYTE / 64 + MEGABYTE / 1024))
CASES = (
    Case(
        "shake-frame-1M-16B",
        ShakeFanout(),
        1_000_000,
        _shake_frame,
        _milliseconds,
        Effort(bytes=48, logic=KECCAK_LOGIC),
        is_whole=True,
    ),
    Case(
        "blake3-1M-64B",
        Blake3Tree(),
        1_000_000,
        lambda rows: _blake3_frame(rows, 64),
        _rate(1e9, 64),
        Effort(bytes=96, logic=BLAKE3_LOGIC),
    ),
    Case(
        "blake3-1k-1MB",
        Blake3Tree(),
        1_000,
        lambda rows: _blake3_frame(rows, MEGABYTE),
        _rate(1e9, MEGABYTE),
        _BLAKE3_MEGABYTE,
    ),
    Case("sort-1M", RadixSort(), 1_000_000, _sort_frame, _rate(1e9), Effort(bytes=SORT_BYTES)),
    Case("sort-10M", RadixSort(), 10_000_000, _sort_frame, _rate(1e9), Effort(bytes=SORT_BYTES)),
    Case(
        "mod-mul-256-1M",
        BignumCgbn(),
        1_000_000,
        _mod_mul_frame,
        _rate(1e9),
        Effort(bytes=96, multiply_adds=MOD_MUL_256),
    ),
    Case(
        "secp256k1-1M",
        Secp256k1BatchedMul(),
        1_000_000,
        _secp256k1_frame,
        _rate(1e6),
        Effort(bytes=96, multiply_adds=SECP256K1),
    ),
)
