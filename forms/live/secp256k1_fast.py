"""Multiples of a point by libsecp256k1 on all cores of a CPU: the generator by its own table, other points one by one.

coincurve lets the interpreter go for each multiplication, which takes far longer than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

from coincurve import PublicKey

from forms.live.numbers import Numbers
from forms.live.points import GENERATOR, ORDER, POINT_BYTES, SCALAR_BYTES, PointCall, Points

CHUNK_SCALARS = 256
"""Scalars that a thread takes at a time."""


def multiply_points(call: PointCall) -> Points:
    """The products, in order."""
    if call.base is None:
        return Points(bytes(len(call.scalars) * POINT_BYTES))
    multiply = PublicKey.from_secret if call.base == GENERATOR else PublicKey.from_point(*call.base).multiply
    parts = [call.scalars[start : start + CHUNK_SCALARS] for start in range(0, len(call.scalars), CHUNK_SCALARS)]
    return Points(b"".join(_threads().map(partial(_rows, multiply), parts)))


def _rows(multiply: Callable[[bytes], PublicKey], scalars: Numbers) -> bytes:
    return b"".join([_row(multiply, scalar % ORDER) for scalar in scalars])


def _row(multiply: Callable[[bytes], PublicKey], scalar: int) -> bytes:
    if not scalar:
        return bytes(POINT_BYTES)
    # One byte that says how it is written, then x and y, most significant first.
    written = multiply(scalar.to_bytes(SCALAR_BYTES, "big")).format(compressed=False)
    return written[32:0:-1] + written[64:32:-1]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "secp256k1")
