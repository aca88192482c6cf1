"""Ways to carry out the same network: what honest hosts differ in, and what may not pass for it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy

from forms.poc.philox import Array

Settle = Callable[[Array], Array]


def _as_is(values: Array) -> Array:
    return values


def half_rounded(values: Array, xp: ModuleType = numpy) -> Array:
    """Single precision rounded as half precision would: ten bits behind the point, and steps of 2**-24 at the least.

    NumPy's own conversion takes thirty times as long for small numbers. What overflows half precision stays.
    """
    # Dekker's splitting leaves 11 of the 24 bits; beside 0.75 the last bit of single precision stands for 2**-24.
    values = values.astype(xp.float32, copy=False)
    spread = values * 8193.0
    return xp.where(xp.abs(values) < 2.0**-14, (values + 0.75) - 0.75, spread - (spread - values))


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """settle: what is made of every result.  parts: that sums are split into."""

    name: str
    dtype: str = "float32"
    settle: Settle = _as_is
    parts: int = 1

    def times(self, values: Array, matrix: Array) -> Array:
        """values (…, in) times a matrix (out, in)."""
        values, matrix = values.astype(self.dtype), matrix.astype(self.dtype)
        step = -(-values.shape[-1] // self.parts)
        total = values[..., :step] @ matrix[:, :step].T
        for start in range(step, values.shape[-1], step):
            total = total + values[..., start : start + step] @ matrix[:, start : start + step].T
        return self.settle(total)


FP32 = Arithmetic("fp32")
FP64 = Arithmetic("float64", dtype="float64")
REORDERED = Arithmetic("reordered", parts=8)
FP16 = Arithmetic("fp16", settle=half_rounded)
HONEST = (FP32, REORDERED, FP64, FP16)


def quantised(matrix: Array, bits: int, xp: ModuleType = numpy) -> Array:
    """A matrix (out, in) rounded to `bits` with a scale for each row: a saving that the proof must not pass."""
    most = 2 ** (bits - 1) - 1
    steps = xp.abs(matrix).max(axis=1, keepdims=True) / most
    return (xp.round(matrix / steps) * steps).astype(matrix.dtype)
