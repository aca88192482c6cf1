"""Which devices prove together: neighbours whose memory suffices. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SIZES = (1, 2, 4, 8)
LEAST_GB = 23.0
"""The seed system's edge: what a card sold as 24 GB has to give."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, by its number on this host."""

    number: int
    memory_gb: float


CPU = Device(0, 0.0)


def group_devices(devices: Iterable[Device], least_gb: float = LEAST_GB) -> list[tuple[Device, ...]]:
    """1, 2, 4 or 8 devices in a row, the fewest with `least_gb` together; one that finds no company stays out.

    A host without any group has one: its processor.
    """
    left = sorted(devices, key=lambda device: device.number)
    groups: list[tuple[Device, ...]] = []
    while left:
        size = next((size for size in SIZES if _suffices(left[:size], size, least_gb)), 0)
        if size:
            groups.append(tuple(left[:size]))
        left = left[size or 1 :]
    return groups or [(CPU,)]


def _suffices(devices: list[Device], size: int, least_gb: float) -> bool:
    return len(devices) == size and sum(device.memory_gb for device in devices) >= least_gb
