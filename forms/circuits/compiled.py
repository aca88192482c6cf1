"""Machine code of the kernels, made by numba when first asked for and kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from forms import machine_code
from forms.circuits import kernels
from forms.circuits.kernels import Run, Words
from forms.machine_code import Function


def is_available() -> bool:
    """Tell whether numba is installed (the extra `cpu-forms`)."""
    return machine_code.is_available()


def _compiled(function: Function) -> Function:
    # What lowers a circuit is also wanted where a GPU runs it: slow, as plain Python, and right.
    return machine_code.compiled(function) if is_available() else function


@cache
def stack_depths() -> Callable[[NDArray[np.uint8], NDArray[np.int32]], int]:
    """`kernels.stack_depths`, compiled."""
    return _compiled(kernels.stack_depths)


@cache
def last_uses() -> Callable[[kernels.Wires, NDArray[np.int64]], None]:
    """`kernels.last_uses`, compiled."""
    return _compiled(kernels.last_uses)


@cache
def share_slots() -> Callable[[kernels.Wires, NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], int], int]:
    """`kernels.share_slots`, compiled."""
    return _compiled(kernels.share_slots)


@cache
def fill_lfsr() -> Callable[[np.uint64, Words], np.uint64]:
    """`kernels.fill_lfsr`, compiled."""
    return _compiled(kernels.fill_lfsr)


@cache
def run(width: int) -> Run:
    """The loop of `batch_run.make_run`, compiled for `width` batches side by side. Raises ImportError without numba."""
    from forms.circuits.batch_run import make_run

    return machine_code.compiled(make_run(width))
