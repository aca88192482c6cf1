"""SHAKE-256 of many inputs by dask.distributed or ray: `PYTHON bench/forms_others.py dask|ray 100 1000 …`.

PYTHON is of an environment that has it; nothing of meshd is imported. Prints one JSON object, milliseconds by number
of inputs: the median of several calls, each from rows of bytes at the client to digests at the client, as one task or
as one for each core, whichever is faster.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
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


def median_ms(run: Run, count: int, parts: int) -> float:
    """Of several calls of `count` rows, each cut into so many parts."""
    data = os.urandom(WIDTH * count)
    step = -(-count // parts) * WIDTH

    def call() -> bytes:
        return b"".join(run([data[at : at + step] for at in range(0, len(data), step)]))

    assert call() == hashed(data)
    took = []
    for _ in range(30 if count <= 10_000 else 5):
        began = time.perf_counter()
        call()
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took)


def main() -> None:
    _, which, *counts = sys.argv
    with {"dask": dask, "ray": ray}[which]() as run:
        figures = {count: min(median_ms(run, int(count), parts) for parts in {1, CORES}) for count in counts}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
