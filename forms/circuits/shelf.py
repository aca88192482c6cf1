"""Loaded circuits, kept for the next call that names them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from forms.circuits.circuit import Circuit

# About 38 bytes an operation, the program included: 1.3 GB.
KEPT_OPERATIONS = 2**25


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
