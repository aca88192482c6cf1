"""Points of secp256k1 as frames hold them, and what a call asks of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from forms.live.numbers import Numbers

POINT_BYTES, SCALAR_BYTES = 64, 32

# SEC 2, version 2, section 2.4.1.
PRIME = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)

Point = tuple[int, int] | None
"""Affine x and y; None is the point at infinity."""


@dataclass(frozen=True, slots=True)
class PointCall:
    """scalars: below 2^256, meant modulo the group's order.  base: on the curve."""

    scalars: Numbers
    base: Point


@dataclass(frozen=True, slots=True)
class Points(Sequence[Point]):
    """Points as frames hold them: x‖y, zeros for infinity, one after the other."""

    data: bytes | memoryview

    @classmethod
    def of(cls, points: Iterable[Point]) -> Points:
        """Affine points in one buffer."""
        coordinates = (one for point in points for one in (point or (0, 0)))
        return cls(Numbers.of(coordinates, SCALAR_BYTES).data)

    def __len__(self) -> int:
        return len(self.data) // POINT_BYTES

    def __iter__(self) -> Iterator[Point]:
        coordinates = iter(Numbers(self.data, SCALAR_BYTES))
        return ((x, y) if x or y else None for x, y in zip(coordinates, coordinates, strict=True))

    @overload
    def __getitem__(self, place: int) -> Point: ...
    @overload
    def __getitem__(self, place: slice) -> Points: ...
    def __getitem__(self, place: int | slice) -> Point | Points:
        if isinstance(place, slice):
            return Points.of(list(self)[place])
        start = range(len(self))[place] * POINT_BYTES
        x, y = Numbers(self.data[start : start + POINT_BYTES], SCALAR_BYTES)
        return (x, y) if x or y else None
