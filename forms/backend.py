"""Where a form can be computed: by its truth, by a faster way on this host's CPU, by a CUDA kernel. Same bytes by all.

A form that has more than its reference says so by having `fast`, or `kernel`, beside it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, TypeVar, runtime_checkable

from forms.cuda.device import Kernel

Call_contra = TypeVar("Call_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Backend(StrEnum):
    """What computed an answer, as costs and status name it."""

    REFERENCE = "reference"
    CPU = "cpu"
    CUDA = "cuda"


@runtime_checkable
class HasFast(Protocol[Call_contra, Result_co]):
    """A form with a faster way than its truth on a CPU."""

    def fast(self, call: Call_contra) -> Result_co:
        """The reference's answer, byte for byte."""


@runtime_checkable
class HasKernel(Protocol):
    """A form with a CUDA kernel."""

    @property
    def kernel(self) -> Kernel[Any, Any]: ...


@runtime_checkable
class HasHostBytes(Protocol):
    """A form that takes more memory of a CPU's host than a few times its request and its reply."""

    def host_bytes(self, call: Any) -> int:
        """How much more, known from shapes."""


@runtime_checkable
class HasSample(Protocol):
    """A form that can make up a small call, which its faster ways are checked on before they serve."""

    def sample(self, rows: int) -> Any:
        """A call of so many rows, of several shapes, the same every time."""
