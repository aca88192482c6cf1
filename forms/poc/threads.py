"""How many threads the libraries under NumPy take: they read it once, when they are loaded. Pure."""

from __future__ import annotations

from collections.abc import MutableMapping

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def pin_threads(environment: MutableMapping[str, str], threads: int) -> None:
    """Have a process of this environment compute with so many; this one too, before NumPy is loaded in it."""
    environment.update(dict.fromkeys(THREAD_SETTINGS, str(threads)))
