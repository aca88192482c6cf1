"""Machine code of loops written in Python, made by numba when first asked for and kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def is_available() -> bool:
    """Tell whether numba is installed (the extra `cpu-forms`)."""
    return find_spec("numba") is not None


def inlined(function: Function) -> Function:
    """`function` as a part of the compiled ones that call it: its lines take the place of the call."""
    import numba

    return cast(Function, numba.njit(inline="always")(function))


def compiled(function: Function) -> Function:
    """`function` as machine code for this host's processor, which runs without the GIL. Bounds are not checked."""
    import numba

    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:
        # No folder that may be written to, beside the module or in the user's home: compile in every process.
        return cast(Function, numba.njit(nogil=True)(function))
