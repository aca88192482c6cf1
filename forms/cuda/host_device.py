"""A device that is this host: the plain C++ build of a kernel, run thread by thread. It shows what a kernel computes.

It is for checks and for small inputs, not for speed. What a GPU would do in silence, it refuses: an argument that is
not of its parameter's width, a write beyond a buffer's end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import psutil

from forms.cuda.cells import flat_bytes
from forms.cuda.device import Buffer
from forms.cuda.host_build import build, default_cache
from forms.cuda.launches import split
from forms.cuda.source import kernel_names, read_source
from forms.errors import DeviceFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

FENCE_BYTES = 64
"""Behind every buffer; a kernel that writes there is told so."""
FENCE = 0xA5
MOST_THREADS = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class HostBuffer:
    """cells: the memory, its fence behind it."""

    cells: NDArray[numpy.uint8]
    size_bytes: int

    @property
    def contents(self) -> NDArray[numpy.uint8]:
        return self.cells[: self.size_bytes]

    @property
    def is_fence_whole(self) -> bool:
        return bool((self.cells[self.size_bytes :] == FENCE).all())


@dataclass(frozen=True, slots=True)
class HostKernel:
    """One kernel of a built source. parameters: 'P' for a pointer, else a width in bytes, one letter each."""

    launch: Any
    parameters: str


@dataclass(frozen=True, slots=True)
class HostDevice:
    """most_threads: of one launch.  backwards: run threads in the other order; no answer may depend on it.

    builds: where libraries are kept.  flags: more of them for the compiler.  fence_bytes: none where a sanitizer looks.
    """

    most_threads: int = MOST_THREADS
    backwards: bool = False
    builds: Path = field(default_factory=default_cache)
    flags: tuple[str, ...] = ()
    fence_bytes: int = FENCE_BYTES

    @property
    def free_bytes(self) -> int:
        return int(psutil.virtual_memory().available)

    def upload(self, data: NDArray[Any] | bytes | memoryview) -> HostBuffer:
        flat = flat_bytes(data)
        return HostBuffer(numpy.concatenate([flat, numpy.full(self.fence_bytes, FENCE, numpy.uint8)]), len(flat))

    def empty(self, size_bytes: int) -> HostBuffer:
        """Not zeros: a kernel that counts on them is wrong on a GPU."""
        return self.upload(numpy.full(size_bytes, 0xEE, numpy.uint8))

    def zeros(self, size_bytes: int) -> HostBuffer:
        return self.upload(numpy.zeros(size_bytes, numpy.uint8))

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        assert isinstance(buffer, HostBuffer)
        return buffer.contents.copy()

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        found = _kernel(source, kernel, self.builds, self.flags)
        _check(kernel, found.parameters, arguments)
        for first, blocks in split(threads, block, self.most_threads):
            cells = [_cell(one) for one in (numpy.uint64(first), *arguments)]
            pointers = (ctypes.c_void_p * len(cells))(*[ctypes.addressof(cell) for cell in cells])
            found.launch(pointers, blocks, block, self.backwards)
        for number, one in enumerate(arguments, start=1):
            if isinstance(one, HostBuffer) and not one.is_fence_whole:
                raise DeviceFailed(f"{kernel} wrote beyond the {one.size_bytes} bytes of parameter {number}")


@cache
def _kernel(source: Path, kernel: str, builds: Path, flags: tuple[str, ...]) -> HostKernel:
    text = read_source(source)
    if kernel not in (names := kernel_names(text)):
        raise DeviceFailed(f"{source.name} has no kernel {kernel!r}; it has {', '.join(names) or 'none'}")
    library = build(text, builds, flags)
    describe = library[f"meshd_parameters_{kernel}"]
    describe.restype = ctypes.c_char_p
    launch = library[f"meshd_launch_{kernel}"]
    launch.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int]
    launch.restype = None
    return HostKernel(launch, describe().decode())


def _check(kernel: str, parameters: str, arguments: Sequence[Any]) -> None:
    given = "".join("P" if isinstance(one, HostBuffer) else str(one.dtype.itemsize) for one in arguments)
    if parameters != "8" + given:
        raise DeviceFailed(
            f"{kernel}: its parameters are {parameters!r}, the arguments are {'8' + given!r} "
            "(P a pointer, else bytes; the first is `u64 first`)"
        )


def _cell(argument: Any) -> ctypes.Array[ctypes.c_char]:
    """An argument's bytes as the kernel takes them: an address, or an integer."""
    raw = numpy.uint64(argument.cells.ctypes.data) if isinstance(argument, HostBuffer) else argument
    return ctypes.create_string_buffer(raw.tobytes(), raw.dtype.itemsize)
