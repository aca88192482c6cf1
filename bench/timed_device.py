"""A device with a stop-watch: how long its kernels ran, apart from what was copied there and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forms.cuda.device import Buffer, Device, SortsNumbers
from tests.gpu.plain_device import PlainDevice

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


class TimedDevice(PlainDevice):
    """wait: returns when all that was launched is done.  kernels_s: from a launch to the next download, summed."""

    def __init__(self, device: Device, wait: Callable[[], None]) -> None:
        super().__init__(device)
        self.kernels_s = 0.0
        self._wait = wait
        self._began: float | None = None

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        self._wait()
        if self._began is not None:
            self.kernels_s += time.perf_counter() - self._began
            self._began = None
        return super().download(buffer)

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        self._begin()
        super().launch(source, kernel, threads, arguments, block)

    def _begin(self) -> None:
        if self._began is None:
            self._wait()
            self._began = time.perf_counter()


class TimedSorter(TimedDevice):
    """The same over a device that has a sort of its own."""

    def __init__(self, device: Device, sorter: SortsNumbers, wait: Callable[[], None]) -> None:
        super().__init__(device, wait)
        self._sorter = sorter

    def sort(self, numbers: Buffer) -> None:
        self._begin()
        self._sorter.sort(numbers)

    def argsort(self, numbers: Buffer) -> Buffer:
        self._begin()
        return self._sorter.argsort(numbers)


def timed(device: Device, wait: Callable[[], None]) -> TimedDevice:
    """`device` with a stop-watch, and with its own sort where it has one."""
    return TimedSorter(device, device, wait) if isinstance(device, SortsNumbers) else TimedDevice(device, wait)
