"""The host device, watched: how much memory was held at once."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forms.cuda.device import Buffer
from forms.cuda.host_device import HostBuffer, HostDevice

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


class CountingDevice:
    """most_bytes: the largest sum of buffers that lived at one time."""

    def __init__(self) -> None:
        self.most_bytes = 0
        self._held_bytes = 0
        self._host = HostDevice()

    @property
    def free_bytes(self) -> int:
        return self._host.free_bytes

    def upload(self, data: NDArray[Any] | bytes | memoryview) -> Buffer:
        return self._counted(self._host.upload(data))

    def empty(self, size_bytes: int) -> Buffer:
        return self._counted(self._host.empty(size_bytes))

    def zeros(self, size_bytes: int) -> Buffer:
        return self._counted(self._host.zeros(size_bytes))

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        return self._host.download(buffer)

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        self._host.launch(source, kernel, threads, arguments, block)

    def _counted(self, buffer: HostBuffer) -> HostBuffer:
        self._held_bytes += buffer.size_bytes
        self.most_bytes = max(self.most_bytes, self._held_bytes)
        weakref.finalize(buffer.cells, self._freed, buffer.size_bytes)
        return buffer

    def _freed(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
