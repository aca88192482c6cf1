"""A device without what it has beyond the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forms.cuda.device import Buffer, Device

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


class PlainDevice:
    """`device`, and no more of it than every device offers."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def free_bytes(self) -> int:
        return self._device.free_bytes

    def upload(self, data: NDArray[Any] | bytes | memoryview) -> Buffer:
        return self._device.upload(data)

    def empty(self, size_bytes: int) -> Buffer:
        return self._device.empty(size_bytes)

    def zeros(self, size_bytes: int) -> Buffer:
        return self._device.zeros(size_bytes)

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        return self._device.download(buffer)

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        self._device.launch(source, kernel, threads, arguments, block)
