"""A kernel's source as every compiler gets it: one text, with the headers it names put in their places.

NVRTC has no files of its own and CuPy's cache looks at the text alone, so `#include "…"` is resolved here: beside the
file that asks, else among ours (`host.h`). Diagnostics still name the files, by `#line`.
"""

from __future__ import annotations

import re
from pathlib import Path

OURS = Path(__file__).parent
STANDARD = "--std=c++17"
"""For every compiler alike."""

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"[^\n]*$', re.MULTILINE)
_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once[^\n]*$", re.MULTILINE)
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^()]*\)\s*)?(\w+)\s*\(')


def read_source(path: Path) -> str:
    """The file with all that it includes, each once. Raises OSError when a file is missing."""
    return _expanded(path, set())


def kernel_names(text: str) -> list[str]:
    """The kernels of a source: what it declares as `extern "C" __global__ void name(…)`, in order."""
    return _KERNEL.findall(text)


def _expanded(path: Path, seen: set[Path]) -> str:
    seen.add(path.resolve())
    text = _ONCE.sub("", path.read_text("utf-8"))
    parts, end = [_line(1, path)], 0
    for include in _INCLUDE.finditer(text):
        parts.append(text[end : include.start()])
        named = _found(path, include[1])
        if named.resolve() not in seen:
            parts.append(_expanded(named, seen))
        end = include.end() + 1
        parts.append(_line(text.count("\n", 0, end) + 1, path))
    return "".join([*parts, text[end:]])


def _found(asking: Path, name: str) -> Path:
    beside = asking.parent / name
    return beside if beside.exists() else OURS / name


def _line(number: int, path: Path) -> str:
    return f'#line {number} "{path.name}"\n'
