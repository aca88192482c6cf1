"""SHAKE-256 of many inputs by dask.distributed or ray, call by call: `PYTHON bench/forms_others.py dask|ray`.

PYTHON is of an environment that has it; nothing of meshd is imported. Each line of input, a number of rows and a number
of parts to cut them into, is one call, from rows of bytes at the client to digests at the client; its milliseconds are
the line that is printed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WIDTH, OUT = 16, 32
CORES = os.cpu_count() or 1

Run = Callable[[list[bytes]], list[bytes]]


def hashed(data: bytes) -> bytes:
    """The digests of its rows."""
    rows = range(0, len(data), WIDTH)
    return b"".join([hashlib.shake_256(data[at : at + WIDTH]).digest(OUT) for at in rows])


@contextmanager
def dask() -> Iterator[Run]:
    """A local cluster, a process for each core."""
    from distributed import Client, LocalCluster  # type: ignore[import-not-found]

    with (
        LocalCluster(n_workers=CORES, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield lambda pieces: client.gather([client.submit(hashed, piece, pure=False) for piece in pieces])


@contextmanager
def ray() -> Iterator[Run]:
    """The same by ray."""
    import ray as library  # type: ignore[import-not-found]

    library.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    remote = library.remote(hashed)
    yield lambda pieces: library.get([remote.remote(piece) for piece in pieces])
    library.shutdown()


def call_ms(run: Run, count: int, parts: int) -> float:
    """One call of `count` rows, cut into so many parts."""
    data = os.urandom(WIDTH * count)
    step = -(-count // parts) * WIDTH
    began = time.perf_counter()
    digests = run([data[at : at + step] for at in range(0, len(data), step)])
    took = 1e3 * (time.perf_counter() - began)
    assert b"".join(digests)[-OUT:] == hashed(data[-WIDTH:])
    return took


def main() -> None:
    # What a library prints must not get between the figures.
    figures = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with {"dask": dask, "ray": ray}[sys.argv[1]]() as run:
        for line in sys.stdin:
            count, parts = map(int, line.split())
            print(call_ms(run, count, parts), file=figures)


if __name__ == "__main__":
    main()
