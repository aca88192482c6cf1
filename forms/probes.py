"""Calls that show what each form costs: a small one twice, since the first is cold, then a larger one. Pure.

Each takes tens of milliseconds at most by a form's reference; what they ask for means nothing. Forms that are not
known here are measured by the calls that come.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator

from forms.catalogue import Catalogue
from forms.request import Request

SECP256K1_G = b"\0" * 64
"""A base point of zeros stands for the generator."""


def _shake(count: int) -> bytes:
    return struct.pack("<4sIII", b"BSHK", 32, count, 16) + _bytes(16 * count)


def _blake3(count: int) -> bytes:
    row = struct.pack("<I", 64) + _bytes(64)
    return struct.pack("<4sII", b"BSB3", 32, count) + row * count


def _sort(count: int) -> bytes:
    return struct.pack("<4sIQ", b"BSRT", 0, count) + _bytes(8 * count)


def _multiply(count: int) -> bytes:
    modulus = b"\xff" * 32
    return struct.pack("<4sIII", b"BCGB", 5, 256, count) + modulus + _bytes(64 * count)


def _points(count: int) -> bytes:
    return struct.pack("<4sI", b"BSCP", count) + SECP256K1_G + _bytes(32 * count)


_FRAMES: dict[bytes, tuple[Callable[[int], bytes], int]] = {
    b"BSHK": (_shake, 20_000),
    b"BSB3": (_blake3, 20_000),
    b"BSRT": (_sort, 200_000),
    b"BCGB": (_multiply, 10_000),
    b"BSCP": (_points, 1_000),
}
"""By magic: how a call of so many rows is written, and how many a larger one has."""

SMALL = 16
_DIGITS = "0123456789abcdef"
_TEXTS: dict[str, tuple[Callable[[int], str], int]] = {
    "cuda-shake-fanout": (lambda count: "(cuda-shake-fanout '(" + f'"{_DIGITS * 2}" ' * count + ") 32)", 2_000),
    "cuda-blake3-tree": (lambda count: "(cuda-blake3-tree '(" + f'"{_DIGITS * 2}" ' * count + ") 32)", 2_000),
    "cuda-radix-sort": (lambda count: "(cuda-radix-sort '(" + "1234567890123456 " * count + "))", 10_000),
}


def probes(catalogue: Catalogue) -> Iterator[Request]:
    """Calls for the forms of `catalogue`, in order."""
    for form in catalogue:
        if form.magic in _FRAMES:
            write, large = _FRAMES[form.magic]
            yield from (Request(False, write(count)) for count in (SMALL, SMALL, large))
        if form.name in _TEXTS:
            spell, large = _TEXTS[form.name]
            yield from (Request(True, spell(count).encode()) for count in (SMALL, SMALL, large))


def _bytes(count: int) -> bytes:
    """Bytes without any order, the same every time."""
    return hashlib.shake_256(b"meshd probe").digest(count)
