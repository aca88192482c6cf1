"""Multiples of a point by libsecp256k1 on all cores of a CPU: the generator by its own table, other points one by one.

coincurve lets the interpreter go for each multiplication, which takes far longer than that.
"""

from __future__ import annotations

from collections.abc import Callable

from coincurve import PublicKey

from forms.live.cores import spread
from forms.live.points import GENERATOR, ORDER, POINT_BYTES, SCALAR_BYTES, PointCall, Points

LEAST_SCALARS = 16
"""Scalars that are worth a thread's while."""


def multiply_points(call: PointCall) -> Points:
    """The products, in order."""
    if call.base is None:
        return Points(bytes(len(call.scalars) * POINT_BYTES))
    multiply = PublicKey.from_secret if call.base == GENERATOR else PublicKey.from_point(*call.base).multiply

    def rows(part: slice) -> bytes:
        return b"".join([_row(multiply, scalar % ORDER) for scalar in call.scalars[part]])

    return Points(spread(rows, len(call.scalars), LEAST_SCALARS))


def _row(multiply: Callable[[bytes], PublicKey], scalar: int) -> bytes:
    if not scalar:
        return bytes(POINT_BYTES)
    # One byte that says how it is written, then x and y, most significant first.
    written = multiply(scalar.to_bytes(SCALAR_BYTES, "big")).format(compressed=False)
    return written[32:0:-1] + written[64:32:-1]
