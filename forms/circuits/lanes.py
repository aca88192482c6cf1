"""Between one integer a shot and one word a wire: 64 shots lie side by side, shot s of a batch in bit s."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LANES = 64


def batches_of(shots: int) -> int:
    """The number of batches that hold `shots`."""
    return -(-shots // LANES)


def live_mask(shots: int, batch: int) -> int:
    """Lanes of `batch` that hold a shot."""
    return (1 << min(LANES, shots - batch * LANES)) - 1


def to_lanes(values: Sequence[int], width: int) -> NDArray[np.uint64]:
    """Spread integers below 2**width over wires. Returns (batches, width) words; lanes without a shot are 0."""
    length = -(-width // 8)
    shots = np.zeros((batches_of(len(values)) * LANES, length), np.uint8)
    joined = b"".join(value.to_bytes(length, "little") for value in values)
    shots[: len(values)] = np.frombuffer(joined, np.uint8).reshape(len(values), length)
    bits = np.unpackbits(shots, axis=1, count=width, bitorder="little").reshape(-1, LANES, width)
    packed = np.packbits(bits, axis=1, bitorder="little")
    words: NDArray[np.uint64] = np.ascontiguousarray(packed.transpose(0, 2, 1)).view("<u8")[:, :, 0]
    return words


def from_lane(words: NDArray[np.uint64], lane: int) -> int:
    """Read one shot's integer off the words of a register, the least significant wire first."""
    bits = (words >> np.uint64(lane)) & np.uint64(1)
    return int.from_bytes(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes(), "little")
