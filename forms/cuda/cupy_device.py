"""A device that is an NVIDIA GPU, through CuPy: kernels compiled by NVRTC for the card at hand, kept on disk by CuPy.

Only the process that computes imports this: the agent holds no CUDA context. CuPy comes with the extras cuda12, cuda13.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy
import numpy

from forms.cuda.cells import flat_bytes
from forms.cuda.device import Buffer
from forms.cuda.launches import split
from forms.cuda.source import STANDARD, read_source
from forms.errors import DeviceFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Far below the grid's own limit of 2^31-1 blocks: a card that also draws a screen ends launches that take seconds.
MOST_THREADS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class CupyBuffer:
    """cells: a cupy array of bytes."""

    cells: Any

    @property
    def size_bytes(self) -> int:
        return int(self.cells.nbytes)


class CupyDevice:
    """One GPU, by its CUDA number; for one thread. most_threads: of a launch. Raises DeviceFailed where it is none."""

    def __init__(self, ordinal: int = 0, most_threads: int = MOST_THREADS) -> None:
        self.ordinal = ordinal
        self.most_threads = most_threads
        self._modules: dict[Path, Any] = {}
        with _translated():
            cupy.cuda.Device(ordinal).use()

    @cached_property
    def name(self) -> str:
        """As its maker calls it."""
        with _translated():
            said: bytes = cupy.cuda.runtime.getDeviceProperties(self.ordinal)["name"]
        return said.decode()

    @cached_property
    def resident_threads(self) -> int:
        with _translated():
            properties = cupy.cuda.runtime.getDeviceProperties(self.ordinal)
        return int(properties["multiProcessorCount"]) * int(properties["maxThreadsPerMultiProcessor"])

    @property
    def free_bytes(self) -> int:
        with _translated():
            free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free) + int(cupy.get_default_memory_pool().free_bytes())

    def upload(self, data: NDArray[Any] | bytes | memoryview) -> CupyBuffer:
        flat = flat_bytes(data)
        buffer = self.empty(len(flat))
        if len(flat):
            with _translated():
                buffer.cells.set(flat)
        return buffer

    def empty(self, size_bytes: int) -> CupyBuffer:
        with _translated():
            return CupyBuffer(cupy.empty(size_bytes, cupy.uint8))

    def zeros(self, size_bytes: int) -> CupyBuffer:
        buffer = self.empty(size_bytes)
        if size_bytes:
            with _translated():
                buffer.cells.data.memset_async(0, size_bytes)
        return buffer

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        assert isinstance(buffer, CupyBuffer)
        self.wait()
        with _translated():
            taken: NDArray[numpy.uint8] = buffer.cells.get()
        return taken

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        given = tuple(one.cells if isinstance(one, CupyBuffer) else one for one in arguments)
        with _translated():
            function = self._module(source).get_function(kernel)
            for first, blocks in split(threads, block, self.most_threads):
                function((blocks,), (block,), (numpy.uint64(first), *given))

    def sort(self, numbers: Buffer) -> None:
        """Sort u64 in place, ascending. CuPy hands it to CUB's radix sort: the best kernel that there is for it."""
        assert isinstance(numbers, CupyBuffer)
        with _translated():
            numbers.cells.view(cupy.uint64).sort()

    def argsort(self, numbers: Buffer) -> CupyBuffer:
        """The places of u64 in ascending order, equals in theirs, as u64."""
        assert isinstance(numbers, CupyBuffer)
        with _translated():
            return CupyBuffer(cupy.argsort(numbers.cells.view(cupy.uint64), kind="stable").view(cupy.uint8))

    def wait(self) -> None:
        """Until what was launched is done. Raises DeviceFailed for what went wrong in it."""
        with _translated():
            cupy.cuda.get_current_stream().synchronize()

    def give_back(self) -> None:
        """Free what CuPy keeps of memory that nothing is in any more, so that others may have it."""
        with _translated():
            cupy.get_default_memory_pool().free_all_blocks()

    def _module(self, source: Path) -> Any:
        if source not in self._modules:
            self._modules[source] = cupy.RawModule(code=read_source(source), options=(STANDARD,), backend="nvrtc")
        return self._modules[source]


def gpu_count() -> int:
    """How many CUDA devices there are; 0 also where there is no driver."""
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


@contextmanager
def _translated() -> Iterator[None]:
    """CuPy's errors as ours."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise DeviceFailed(f"the GPU has not enough free memory: {error}") from error
    except cupy.cuda.compiler.CompileException as error:
        raise DeviceFailed(f"the kernel does not compile for this GPU:\n{error}") from error
    except RuntimeError as error:
        # The runtime's and the driver's errors, Thrust's, and a compiler that was not found: all are of this kind.
        raise DeviceFailed(f"the GPU failed: {error}") from error
