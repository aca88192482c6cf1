"""The faster CPU ways of large numbers and of points where their parts meet: each says what the reference says."""

from __future__ import annotations

import random

import pytest

from forms.live import bignum_fast, secp256k1_fast
from forms.live.bignum import BignumCgbn
from forms.live.bignum_call import BignumCall, Operation
from forms.live.numbers import Numbers
from forms.live.points import GENERATOR, ORDER, PRIME, PointCall
from forms.live.secp256k1 import Secp256k1BatchedMul

DICE = random.Random(8)
BIGNUM, SECP256K1 = BignumCgbn(), Secp256k1BatchedMul()
MINUS = (GENERATOR[0], PRIME - GENERATOR[1])


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("modulus", [2**128 - 159, 2**127 + 2, 6, 1])
def test_rows_in_parts_with_zeros_at_their_ends(
    operation: Operation, modulus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gmpy2 packs a row into one number, whose upper zeros are not there."""
    monkeypatch.setattr(bignum_fast, "CHUNK_PAIRS", 8)
    monkeypatch.setattr(bignum_fast, "LEAST_POWERS", 3)
    values = [0, 1, modulus % 2**128, 2**128 - 1, *(DICE.getrandbits(128) for _ in range(17)), 0, 0]
    a, b = (Numbers.of(numbers, 16) for numbers in (values + [0] * 9, values[::-1] + [0] * 9))
    for count in (0, 1, 8, len(a)):
        call = BignumCall(operation, 128, modulus, a[:count], b[:count])
        assert BIGNUM.fast(call) == BIGNUM.reference(call)


@pytest.mark.parametrize("base", [GENERATOR, MINUS, None])
def test_scalars_in_parts(base: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secp256k1_fast, "LEAST_SCALARS", 4)
    scalars = [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1, *(DICE.getrandbits(256) for _ in range(7)), 0]
    for count in (0, 1, 4, len(scalars)):
        call = PointCall(Numbers.of(scalars[:count], 32), base)
        assert SECP256K1.fast(call) == SECP256K1.reference(call)
