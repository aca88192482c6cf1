"""Builds a kernel's source with this host's C++ compiler, once: what was built lies in a cache by its content."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from forms.cuda.source import STANDARD, kernel_names
from forms.errors import DeviceFailed

COMPILERS = ("c++", "g++", "clang++")
FLAGS = (STANDARD, "-O2", "-shared", "-fPIC", "-fno-strict-aliasing", "-Wall", "-Wno-unknown-pragmas", "-x", "c++")
BUILD_S = 300
_TRAMPOLINES = """
extern "C" const char *meshd_parameters_{kernel}() {{ return meshd_host::parameters({kernel}); }}
extern "C" void meshd_launch_{kernel}(void *const *arguments, u32 blocks, u32 block, int backwards) {{
    meshd_host::launch({kernel}, arguments, blocks, block, backwards);
}}
"""


class NoCompiler(DeviceFailed):
    """This host has no C++ compiler."""


def find_compiler() -> str:
    """The path of $CXX, or of the first of the usual names. Raises NoCompiler."""
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        if name and (path := shutil.which(name)):
            return path
    raise NoCompiler(f"no C++ compiler found: install one of {', '.join(COMPILERS)}, or name it in CXX")


def build(text: str, cache: Path, more_flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of a source with its kernels' trampolines. Raises NoCompiler, DeviceFailed with what was wrong.

    cache: a folder of this user's own, since what lies there is run.
    """
    compiler = find_compiler()
    command = [compiler, *FLAGS, *more_flags]
    whole = text + "".join(_TRAMPOLINES.format(kernel=kernel) for kernel in kernel_names(text))
    known_by = hashlib.sha256("\0".join([*command, whole]).encode()).hexdigest()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    library = cache / f"{known_by[:32]}.so"
    if not library.exists():
        _compile(command, whole, library)
    return ctypes.CDLL(str(library))


def default_cache() -> Path:
    """Where builds are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "meshd" / "host-kernels"


def _compile(command: list[str], text: str, library: Path) -> None:
    # Two may build the same at once: each under a name of its own, the last to finish stays.
    handle, made = tempfile.mkstemp(suffix=".so", dir=library.parent)
    os.close(handle)
    try:
        done = subprocess.run([*command, "-o", made, "-"], input=text, capture_output=True, text=True, timeout=BUILD_S)
        if done.returncode:
            raise DeviceFailed(f"the kernel does not build for the host:\n{done.stderr.strip()}")
        Path(made).replace(library)
    finally:
        Path(made).unlink(missing_ok=True)
