"""Points on a short Weierstrass curve over a prime field, many at a time: what the circuits' checks compute with.

Additions are in affine coordinates and share one inversion (Montgomery's trick), so that a point costs about
six products. This is for public test inputs: nothing here is constant in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

# None is the point at infinity.
Point = tuple[int, int] | None

_WINDOW_BITS = 8


@dataclass(frozen=True)
class Curve:
    """y² = x³ + a·x + b over the integers modulo the prime `p`, and a base point for scalars of `scalar_bits`."""

    p: int
    a: int
    b: int
    base: tuple[int, int]
    scalar_bits: int

    def add(self, ones: Sequence[Point], others: Sequence[Point]) -> list[Point]:
        """Add points pair by pair."""
        slopes = [self._slope(one, other) for one, other in zip(ones, others, strict=True)]
        inverses = inverted([below for _, below in slopes], self.p)
        return [
            self._sum(one, other, above * inverse)
            for one, other, (above, _), inverse in zip(ones, others, slopes, inverses, strict=True)
        ]

    def _slope(self, one: Point, other: Point) -> tuple[int, int]:
        """The line through two points as a fraction; below is 0 where there is no sum to compute."""
        if one is None or other is None:
            return 0, 0
        if one[0] != other[0]:
            return other[1] - one[1], other[0] - one[0]
        return (3 * one[0] * one[0] + self.a, 2 * one[1]) if one[1] == other[1] else (0, 0)

    def _sum(self, one: Point, other: Point, slope: int) -> Point:
        if one is None or other is None:
            return other if one is None else one
        if one[0] == other[0] and (one[1] != other[1] or one[1] == 0):
            return None
        slope %= self.p
        x = (slope * slope - one[0] - other[0]) % self.p
        return x, (slope * (one[0] - x) - one[1]) % self.p

    @cached_property
    def _table(self) -> list[list[Point]]:
        """digit -> point for each window of the scalar, the lowest first."""
        windows: list[list[Point]] = []
        unit: Point = self.base
        for _ in range(0, self.scalar_bits, _WINDOW_BITS):
            row: list[Point] = [None, unit]
            while len(row) <= 2**_WINDOW_BITS:
                row += self.add(row, [row[-1]] * len(row))[1:]
            windows.append(row)
            unit = row[2**_WINDOW_BITS]
        return windows

    def multiples(self, scalars: Sequence[int]) -> list[Point]:
        """Multiply the base point by each scalar of at most `scalar_bits`."""
        points: list[Point] = [None] * len(scalars)
        for number, row in enumerate(self._table):
            shift = number * _WINDOW_BITS
            points = self.add(points, [row[scalar >> shift & 2**_WINDOW_BITS - 1] for scalar in scalars])
        return points


def inverted(values: Sequence[int], p: int) -> list[int]:
    """Invert each value modulo the prime `p`; 0 stays 0."""
    products, product = [], 1
    for value in values:
        products.append(product)
        product = product * value % p if value else product
    inverse = pow(product, -1, p)
    result = [0] * len(values)
    for index in range(len(values) - 1, -1, -1):
        if value := values[index]:
            result[index] = inverse * products[index] % p
            inverse = inverse * value % p
    return result


# SEC 2 §2.4.1.
SECP256K1 = Curve(
    p=2**256 - 2**32 - 977,
    a=0,
    b=7,
    base=(
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
    scalar_bits=256,
)
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
