"""Compiles a kernel for any architecture with NVIDIA's run-time compiler, loaded by itself: it needs no GPU, no driver.

The library comes from the wheel nvidia-cuda-nvrtc-cu12 (or -cu13), or from wherever the host's loader finds one.
API: NVRTC's user guide, "User Interface".
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forms.cuda.source import STANDARD
from forms.errors import FormFailed

NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
_Program = ctypes.c_void_p


class NoNvrtc(FormFailed):
    """NVRTC is not on this host."""


class NotCompiled(FormFailed):
    """The compiler refused a source; the message is its log."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """cubin: machine code.  log: what the compiler said, warnings included; empty when it had nothing to say."""

    cubin: bytes
    log: str


@dataclass(frozen=True, slots=True)
class Translated:
    """ptx: assembly, which a driver makes machine code of.  log: as of `Compiled`."""

    ptx: str
    log: str


class Nvrtc:
    """The compiler. Raises NoNvrtc when there is none."""

    def __init__(self) -> None:
        self._library = _load()
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> tuple[int, int]:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    @property
    def architectures(self) -> list[int]:
        """What it can compile for: 90 is sm_90."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", found)
        return list(found)

    def compile(self, text: str, name: str, architecture: int, more_options: tuple[str, ...] = ()) -> Compiled:
        """Machine code for sm_`architecture`. Raises NotCompiled with the compiler's log."""
        with self._program(text, name) as program:
            log = self._compile(program, name, f"sm_{architecture}", more_options)
            return Compiled(self._sized("nvrtcGetCUBINSize", "nvrtcGetCUBIN", program), log)

    def translate(self, text: str, name: str, architecture: int) -> Translated:
        """PTX for compute_`architecture`, at half the price of machine code. Raises NotCompiled as `compile` does."""
        with self._program(text, name) as program:
            log = self._compile(program, name, f"compute_{architecture}", ())
            ptx = self._sized("nvrtcGetPTXSize", "nvrtcGetPTX", program)
            return Translated(ptx.rstrip(b"\0").decode(), log)

    @contextmanager
    def _program(self, text: str, name: str) -> Iterator[ctypes.c_void_p]:
        program = _Program()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            yield program
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _compile(self, program: ctypes.c_void_p, name: str, target: str, more_options: tuple[str, ...]) -> str:
        """What the compiler says of it."""
        options = [one.encode() for one in (f"--gpu-architecture={target}", STANDARD, *more_options)]
        code = self._library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        said = self._sized("nvrtcGetProgramLogSize", "nvrtcGetProgramLog", program)
        log = said.replace(b"\0", b"").decode().strip()
        if code:
            raise NotCompiled(f"{name} for {target}: {self._words(code)}\n{log}")
        return log

    def _sized(self, size_of: str, get: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(size_of, program, ctypes.byref(size))
        taken = ctypes.create_string_buffer(size.value)
        self._call(get, program, taken)
        return taken.raw

    def _call(self, function: str, *arguments: object) -> None:
        if code := self._library[function](*arguments):
            raise FormFailed(f"{function}: {self._words(code)}")

    def _words(self, code: int) -> str:
        said: bytes = self._library.nvrtcGetErrorString(code)
        return said.decode()


def _load() -> ctypes.CDLL:
    tried = []
    for path in (*_in_wheels(), *NAMES, ctypes.util.find_library("nvrtc")):
        if path is None:
            continue
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            tried.append(str(error))
    raise NoNvrtc(f"no NVRTC found: install nvidia-cuda-nvrtc-cu12 ({'; '.join(tried)})")


def _in_wheels() -> list[Path]:
    """The libraries of NVIDIA's wheels: cu12 lies in nvidia/cuda_nvrtc/lib, cu13 in nvidia/cu13/lib."""
    nvidia = importlib.util.find_spec("nvidia")
    folders = [Path(place) for place in nvidia.submodule_search_locations or []] if nvidia is not None else []
    return sorted(
        path
        for folder in folders
        for part in ("cuda_nvrtc", "cu13")
        for path in folder.glob(f"{part}/lib/libnvrtc.so.*")
    )
