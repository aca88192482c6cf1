"""What is asked of a sort, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

NUMBER_BYTES = 8

Numbers = bytes | memoryview
"""Unsigned 64-bit numbers, little-endian, one after the other: as frames have them."""


class Order(IntEnum):
    """What is asked for, as frames number it. ARGSORT: the places of the numbers in ascending order."""

    ASCENDING = 0
    DESCENDING = 1
    ARGSORT = 2


@dataclass(frozen=True, slots=True)
class SortCall:
    """What to do with which numbers."""

    order: Order
    numbers: Numbers
