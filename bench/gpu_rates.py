"""What a card can do at most, measured on it: bytes moved, bit operations, multiply-adds. Ceilings come from these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy

from bench.timed_device import TimedDevice
from forms.cuda.device import Device

SOURCE = Path(__file__).with_name("gpu_rates.cu")
CHAINS, LOGIC_A_STEP = 8, 3
"""As gpu_rates.cu has them: a step of `bit_operations` is a shift and two operations on three words."""
WORDS_A_THREAD = 64
"""Of eight bytes: half a gibibyte in all, many times what any card's caches hold."""
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Rates:
    """Each a second."""

    bytes: float
    logic: float
    multiply_adds: float


@dataclass(frozen=True, slots=True)
class Effort:
    """What an answer takes at the least. bytes: to or from the card's memory.  logic, multiply_adds: of 32 bits."""

    bytes: float = 0.0
    logic: float = 0.0
    multiply_adds: float = 0.0

    def least_s(self, rates: Rates) -> float:
        """The longest of the three, were each at its full rate and all at once."""
        return max(self.bytes / rates.bytes, self.logic / rates.logic, self.multiply_adds / rates.multiply_adds)


def measure_rates(device: Device, wait: Callable[[], None], threads: int = 1 << 20, rounds: int = 1024) -> Rates:
    """Run each rate's kernel, the best of a few times. threads: of each."""
    out = device.empty(4 * threads)
    words = WORDS_A_THREAD * threads
    source, target = device.zeros(8 * words), device.empty(8 * words)
    shape = (out, numpy.uint32(0x9E3779B1), numpy.uint32(rounds), numpy.uint64(threads))

    def copy(timed: TimedDevice) -> None:
        timed.launch(SOURCE, "copy", threads, [source, target, numpy.uint64(threads), numpy.uint64(words)])

    def logic(timed: TimedDevice) -> None:
        timed.launch(SOURCE, "bit_operations", threads, shape)

    def multiply(timed: TimedDevice) -> None:
        timed.launch(SOURCE, "multiply_adds", threads, shape)

    steps = threads * rounds * CHAINS
    return Rates(
        bytes=2 * 8 * words / _best_s(device, wait, copy),
        logic=LOGIC_A_STEP * steps / _best_s(device, wait, logic),
        multiply_adds=steps / _best_s(device, wait, multiply),
    )


def _best_s(device: Device, wait: Callable[[], None], launch: Callable[[TimedDevice], None]) -> float:
    taken = []
    for _ in range(REPEATS + 1):
        timed = TimedDevice(device, wait)
        launch(timed)
        timed.download(device.empty(1))
        taken.append(timed.kernels_s)
    return min(taken[1:])  # the first one compiles
