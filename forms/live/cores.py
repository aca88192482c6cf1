"""Work of one call on all cores, by threads: for libraries that let the interpreter go while they compute."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

CORES = len(os.sched_getaffinity(0))
PARTS_A_CORE = 4
"""More than one, so that a core which is taken by others leaves its share to the rest."""


def spread(work: Callable[[slice], bytes], count: int, least: int) -> bytes:
    """What `work` gives for parts of `count` items, joined in order; a part has `least` items or more."""
    step = max(least, -(-count // (PARTS_A_CORE * CORES)))
    parts = [slice(start, start + step) for start in range(0, count, step)]
    return b"".join(map(work, parts) if len(parts) < 2 else _threads().map(work, parts))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CORES, "cores")
