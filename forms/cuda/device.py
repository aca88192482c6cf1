"""What a form's CUDA half may ask of a device: memory, copies, launches. A GPU gives it, and so does the host build.

A form's `run` is written once against this; what it computes on the host build, byte for byte, is what it computes
on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Call_contra = TypeVar("Call_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Buffer(Protocol):
    """Memory of the device."""

    @property
    def size_bytes(self) -> int: ...


class Device(Protocol):
    """One device. All calls are in order: a launch sees what an earlier upload or launch wrote."""

    @property
    def free_bytes(self) -> int:
        """What could be allocated now."""

    def upload(self, data: NDArray[Any] | bytes | memoryview) -> Buffer:
        """Copy to the device."""

    def empty(self, size_bytes: int) -> Buffer:
        """Memory whose contents are anything."""

    def zeros(self, size_bytes: int) -> Buffer:
        """Memory of zero bytes."""

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        """Copy from the device, once what was launched before is done. Raises DeviceFailed."""

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        """Run `kernel` of the file `source` with `threads` threads or more, in blocks of `block`.

        A kernel's first parameter is `u64 first`, which the device gives: many threads take several launches, and
        `thread_number(first)` of host.h counts through them all. `arguments` are the parameters behind it, Buffers
        and numpy integers of the very widths. Kernels check their number against a count of their own; 0 threads
        launch nothing. Raises DeviceFailed.
        """


@runtime_checkable
class SortsNumbers(Protocol):
    """A device that comes with a sort of its own, better than kernels that any device could run."""

    def sort(self, numbers: Buffer) -> None:
        """Put u64 into ascending order, in their place. Raises DeviceFailed."""

    def argsort(self, numbers: Buffer) -> Buffer:
        """The places of u64 in ascending order, as u64; equals keep their order. Raises DeviceFailed."""


@runtime_checkable
class KeepsStacks(Protocol):
    """A device that keeps a stack for every thread it could run at a time, however few a launch has."""

    @property
    def resident_threads(self) -> int:
        """How many those are."""


class Kernel(Protocol[Call_contra, Result_co]):
    """The CUDA half of a form. source: the `.cu` file beside its Python."""

    @property
    def source(self) -> Path: ...

    def device_bytes(self, call: Call_contra) -> int:
        """Memory of the device that `run` takes at its most, known from shapes."""

    def run(self, device: Device, call: Call_contra) -> Result_co:
        """The reference's answer, byte for byte. Raises DeviceFailed, and what the reference raises."""


@runtime_checkable
class HasStack(Protocol[Call_contra]):
    """A kernel whose threads have more than their registers."""

    def stack_bytes(self, call: Call_contra) -> int:
        """Of one thread, at most: what a compiler calls its stack frame."""


def all_device_bytes(kernel: Kernel[Call_contra, Any], device: Device, call: Call_contra) -> int:
    """What a call takes of the device: what its kernel allocates, and what the device keeps for its threads."""
    allocated = kernel.device_bytes(call)
    if isinstance(kernel, HasStack) and isinstance(device, KeepsStacks):
        return allocated + kernel.stack_bytes(call) * device.resident_threads
    return allocated
