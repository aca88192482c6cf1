"""Many variants of a circuit over few shots each: the work goes along the variants, and nothing is read twice."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from forms.circuits.circuit import Circuit
from forms.circuits.simulation import Options, Result, simulate

# About 38 bytes an operation, the program included: 1.3 GB.
KEPT_OPERATIONS = 2**25


def simulate_axis(circuits: Sequence[Circuit], options: Options) -> list[Result]:
    """Run every circuit with the same options; results in the order of `circuits`.

    A circuit named twice is run twice. Each variant has one thread, `options.threads` of them run at a time:
    few shots are one batch, which has nothing to share out. Raises what `simulate` raises, for the first variant
    at fault.
    """
    threads = options.threads or len(os.sched_getaffinity(0))
    single = replace(options, threads=1)
    with ThreadPoolExecutor(threads, thread_name_prefix="variant") as pool:
        return list(pool.map(lambda circuit: simulate(circuit, single), circuits))


class CircuitShelf:
    """Loaded circuits, with their programs, for as long as they fit; the one unused for longest goes first.

    most_operations: of all circuits together. One larger than that is loaded and not kept. Any thread may ask;
    a circuit is loaded by one of them while the others wait, for two would need the memory twice.
    """

    def __init__(self, most_operations: int = KEPT_OPERATIONS) -> None:
        self._most = most_operations
        self._circuits: OrderedDict[str, Circuit] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, load: Callable[[], Circuit]) -> Circuit:
        """Give the circuit of `key`, the SHA-256 of its file say, from the shelf or by `load`."""
        with self._lock:
            circuit = self._circuits.pop(key, None) or load()
            self._circuits[key] = circuit
            while sum(kept.operations for kept in self._circuits.values()) > self._most:
                self._circuits.popitem(last=False)
            return circuit
