"""How fast memory is: of well-known GPUs by their names, of this host by measuring it once.

Generating a token reads every weight once, so memory speed bounds tokens a second. The table holds the makers' own
figures; `measure` copies blocks with several threads at once and counts what is read and what is written.
"""

from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

# 10^9 bytes a second; a name contains the words, and the longest words that it contains count.
GPU_GB_PER_S: tuple[tuple[str, int], ...] = (
    *(("H200", 4800), ("H100 PCIe", 2000), ("H100", 3350), ("A100-SXM4-80GB", 2039), ("A100", 1555)),
    *(("B200", 8000), ("L40S", 864), ("L40", 864), ("L4", 300), ("A40", 696)),
    *(("A10", 600), ("T4", 320), ("V100", 900), ("P100", 732), ("P40", 347)),
    *(("RTX 5090", 1792), ("RTX 5080", 960), ("RTX 5070", 672), ("RTX 4090", 1008), ("RTX 4080", 717)),
    *(("RTX 4070", 504), ("RTX 4060", 272), ("RTX 3090", 936), ("RTX 3080", 760), ("RTX 3070", 448)),
    *(("RTX 3060", 360), ("RTX A6000", 768), ("RTX 6000 Ada", 960), ("RTX 2080 Ti", 616), ("GTX 1080 Ti", 484)),
)
BLOCK_BYTES = 64 << 20
ROUNDS = 3


def known_bytes_per_s(name: str) -> float:
    """The memory speed of a GPU of that name, 0 where it is not in the table."""
    fitting = [(len(words), speed) for words, speed in GPU_GB_PER_S if words in name]
    return max(fitting)[1] * 1e9 if fitting else 0.0


def measure_bytes_per_s() -> float:
    """How fast this host's memory is, all cores together. Takes some tenths of a second: call it in a thread."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        blocks = list(pool.map(lambda _: (_filled(), _filled()), range(workers)))
        best = 0.0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            list(pool.map(_copy, blocks))
            best = max(best, 2 * workers * BLOCK_BYTES / (time.perf_counter() - began))
    return best


def _filled() -> ctypes.Array[ctypes.c_char]:
    block = ctypes.create_string_buffer(BLOCK_BYTES)
    ctypes.memset(block, 1, BLOCK_BYTES)  # so that every page is there before the clock runs
    return block


def _copy(pair: tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]) -> None:
    ctypes.memmove(pair[0], pair[1], BLOCK_BYTES)  # ctypes lets other threads run meanwhile
