"""Points: the group's laws where they are easy to get wrong, and known multiples."""

from __future__ import annotations

import importlib.util
import random

import pytest

from forms.circuits.curve import SECP256K1, SECP256K1_ORDER, Curve, Point, inverted

SMALL = Curve(p=31, a=0, b=7, base=(1, 15), scalar_bits=8)


def by_steps(count: int) -> Point:
    point: Point = None
    for _ in range(count):
        point = SMALL.add([point], [SMALL.base])[0]
    return point


def test_inverses_share_one_inversion_and_zero_stays() -> None:
    values = [5, 0, 30, 1]
    products = [value * inverse % 31 for value, inverse in zip(values, inverted(values, 31), strict=True)]
    assert products == [1, 0, 1, 1]


def test_infinity_opposites_and_doubles() -> None:
    one = SMALL.base
    opposite = (one[0], -one[1] % 31)
    assert SMALL.add([None, one, one, None], [one, None, opposite, None]) == [one, one, None, None]
    assert SMALL.add([one], [one]) == [by_steps(2)]


def test_a_point_of_order_two_doubles_to_infinity() -> None:
    # (−1, 0) lies on y² = x³ + 1.
    curve = Curve(p=31, a=0, b=1, base=(30, 0), scalar_bits=8)
    assert curve.add([(30, 0)], [(30, 0)]) == [None]


def test_multiples_are_repeated_additions() -> None:
    scalars = list(range(256))
    assert SMALL.multiples(scalars) == [by_steps(scalar) for scalar in scalars]


def test_multiples_on_secp256k1() -> None:
    # The order takes the base to infinity, and one less to its opposite.
    x, y = SECP256K1.base
    edge = [0, 1, SECP256K1_ORDER - 1, SECP256K1_ORDER, SECP256K1_ORDER + 1]
    assert SECP256K1.multiples(edge) == [None, (x, y), (x, SECP256K1.p - y), None, (x, y)]


@pytest.mark.skipif(not importlib.util.find_spec("coincurve"), reason="coincurve is not installed: the extra cpu-forms")
def test_multiples_are_libsecp256k1s() -> None:
    from coincurve import PublicKey

    dice = random.Random(9)
    scalars = [dice.randrange(1, SECP256K1_ORDER) for _ in range(20)]
    theirs = [PublicKey.from_secret(scalar.to_bytes(32, "big")).point() for scalar in scalars]
    assert SECP256K1.multiples(scalars) == theirs
