"""What is copied to a device, as the bytes that it is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray


def flat_bytes(data: NDArray[Any] | bytes | memoryview) -> NDArray[numpy.uint8]:
    """An array of any shape and kind, or bytes, as a row of u8; a view where it can be one."""
    if isinstance(data, bytes | memoryview):
        return numpy.frombuffer(data, numpy.uint8)
    return numpy.ascontiguousarray(data).reshape(-1).view(numpy.uint8)
