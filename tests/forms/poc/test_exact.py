"""Profile x1: whoever computes it, however, finds the same bits; and whatever differs at all is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy
import pytest

from forms.poc.acceptance import threshold_for
from forms.poc.claim import Work, sample
from forms.poc.computer import Computer
from forms.poc.exact import make_matrices, run_exact
from forms.poc.generation import Assignment, generate, joined
from forms.poc.nonces import Residue
from forms.poc.profile import EXACT, PRESETS, TINY, Profile
from forms.poc.verification import SAMPLES, judge_claim

SEED, KEY = b"an epoch", 0xFEED
NONCES = numpy.arange(64, dtype=numpy.uint64)
FROZEN = "e3675f556cde58820126716305f43f082ded59566525a2cf6340dc6697f1668a"
TINY_DIGEST = "3e0268101f142b7c"
NARROW = replace(EXACT, name="narrow", width=128, outputs=256)


@cache
def computer(profile: Profile = NARROW) -> Computer:
    return Computer.prepare(profile, SEED)


def test_its_numbers_are_frozen() -> None:
    outputs = run_exact(EXACT, computer(EXACT).exact, KEY, NONCES[:2])
    assert hashlib.sha256(outputs.astype("<f4").tobytes()).hexdigest() == FROZEN


@pytest.mark.parametrize("kind", ["f4", "f8", "i8"])
@pytest.mark.parametrize("order", ["as it is", "reversed", "in parts"])
def test_neither_precision_nor_the_order_of_sums_changes_a_bit(kind: str, order: str) -> None:
    truth = run_exact(NARROW, computer().exact, KEY, NONCES)
    permuted = numpy.arange(NARROW.width)[:: -1 if order == "reversed" else 1]

    class Summing:
        """A matrix whose products are summed in another way."""

        def __init__(self, matrix: numpy.typing.NDArray[numpy.float32]) -> None:
            self.T = self
            self.matrix = matrix.astype(kind)

        __array_ufunc__ = None

        def __rmatmul__(self, values: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float32]:
            values = values.astype(kind)
            parts = numpy.array_split(permuted, 7 if order == "in parts" else 1)
            sums = sum(values[:, part] @ self.matrix[:, part].T for part in parts)
            return numpy.asarray(sums).astype("f4")

    again = run_exact(NARROW, tuple(Summing(matrix) for matrix in computer().exact), KEY, NONCES)
    assert numpy.array_equal(again, truth)


@pytest.mark.parametrize("left_out", range(EXACT.layers))
def test_every_layer_changes_everything(left_out: int) -> None:
    whole = computer()
    cheap = replace(whole, exact=tuple(one for number, one in enumerate(whole.exact) if number != left_out))
    ours, theirs = whole.compute(KEY, NONCES), cheap.compute(KEY, NONCES)
    assert not numpy.any(ours.distances == theirs.distances)
    assert float(numpy.mean(ours.artefacts == theirs.artefacts)) < 0.02


def test_one_wrong_bit_of_a_sample_is_one_too_many() -> None:
    assignment = Assignment(NARROW, SEED, KEY, 0.2, Residue(0, 1, 1))
    parts = generate(computer(), assignment, 0, 256)
    honest = joined([next(parts), next(parts)])
    off = honest.distances.copy()
    off[:] = numpy.nextafter(off, numpy.float32(0.0))
    for results, holds in ((honest, True), (replace(honest, distances=off), False)):
        work = Work.of(results)
        picked = work.open(sample(work.claim.root, b"s" * 32, work.claim.count, SAMPLES))
        assert judge_claim(computer(), assignment, work.claim, b"s" * 32, picked).is_honest is holds


def test_as_many_nonces_are_kept_as_the_closed_form_says() -> None:
    threshold = threshold_for(0.2, NARROW.outputs)
    nonces = numpy.arange(250, dtype=numpy.uint64)
    found = [
        Computer.prepare(NARROW, bytes([number])).compute(KEY, nonces).distances < threshold for number in range(20)
    ]
    assert abs(float(numpy.mean(found)) - 0.2) < 4 * (0.2 * 0.8 / 5000) ** 0.5


def test_a_width_whose_sums_would_be_rounded_is_refused() -> None:
    with pytest.raises(ValueError, match="would be rounded"):
        make_matrices(replace(EXACT, width=1 << 16), SEED)


def test_families_have_digests_of_their_own() -> None:
    assert PRESETS["exact"] is EXACT
    assert replace(EXACT, family="m1").digest != EXACT.digest
    assert TINY.digest.hex().startswith(TINY_DIGEST)
