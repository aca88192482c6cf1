"""Runs every kernel's cases on a host build that watches itself: `just sanitize`.

It stops at a read or a write beyond a buffer, a word that is not aligned to its size, a shift that C++ does not define:
on a GPU the first two end a call, or worse, do not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from forms.cuda.host_build import find_compiler
from forms.cuda.host_device import HostDevice
from tests.gpu.test_kernels import CASES, name_of

FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LIBRARIES = ("libasan.so", "libubsan.so")
CHILD = "MESHD_SANITIZED"


def environment() -> dict[str, str]:
    """Ours, with the libraries that must be there before Python is; its own leaks are not looked for."""
    compiler = find_compiler()
    ask = [subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True) for name in LIBRARIES]
    preload = " ".join(one.stdout.strip() for one in ask)
    return {**os.environ, CHILD: "1", "LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"}


def run() -> None:
    """All cases, in this process."""
    with tempfile.TemporaryDirectory(prefix="meshd-sanitized-") as folder:
        device = HostDevice(flags=FLAGS, builds=Path(folder), fence_bytes=0)
        for cases in CASES:
            began = time.perf_counter()
            cases().agrees(device)
            print(f"{name_of(cases):32} clean, {time.perf_counter() - began:5.1f} s", flush=True)


def main() -> None:
    """Run, under the libraries that watch."""
    if CHILD not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "tools.sanitize_kernels"], environment())
    run()


if __name__ == "__main__":
    main()
