"""3 to 5: every layer matters, honest processors agree and cheap ones do not, and P(r) is what is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy
import pytest

from forms.poc.acceptance import threshold_for
from forms.poc.arithmetic import FP32, HONEST, Arithmetic
from forms.poc.batch_size import batch_size, nonce_bytes, weights_bytes
from forms.poc.cheats import with_few_bits, with_fp8, without_layers
from forms.poc.computer import Computer, Results
from forms.poc.profile import SMALL, TINY, Profile
from forms.poc.seeds import derive
from forms.poc.verdict import errors_between, judge

KEY = 0xFEED
NONCES = 400


@cache
def computer(profile: Profile = TINY) -> Computer:
    return Computer.prepare(profile, b"an epoch")


@cache
def honest(arithmetic: Arithmetic) -> Results:
    return replace(computer(), arithmetic=arithmetic).compute(KEY, numpy.arange(NONCES, dtype=numpy.uint64))


def apart(one: Results, other: Results, profile: Profile = TINY) -> numpy.typing.NDArray[numpy.float64]:
    errors: numpy.typing.NDArray[numpy.float64] = errors_between(
        profile.outputs, (one.distances, one.artefacts), (other.distances, other.artefacts)
    )
    return errors


@pytest.mark.parametrize(("profile", "count"), [(TINY, 64), (SMALL, 2)], ids=["tiny", "small"])
def test_no_layer_can_be_left_out(profile: Profile, count: int) -> None:
    nonces = numpy.arange(count, dtype=numpy.uint64)
    whole = computer(profile).compute(KEY, nonces)
    for layer in range(profile.layers):
        without = without_layers(computer(profile), layer).compute(KEY, nonces)
        moved = profile.outputs**0.5 * numpy.abs(whole.distances - without.distances)
        artefacts = replace(without, distances=whole.distances)
        assert numpy.median(moved) > 0.05
        assert apart(whole, artefacts, profile).min() > 0.15


@pytest.mark.parametrize("theirs", HONEST, ids=lambda arithmetic: arithmetic.name)
@pytest.mark.parametrize("ours", HONEST, ids=lambda arithmetic: arithmetic.name)
def test_honest_arithmetics_confirm_each_other(ours: Arithmetic, theirs: Arithmetic) -> None:
    verdict = judge(apart(honest(ours), honest(theirs)))
    assert (verdict.samples, verdict.soft, verdict.hard, verdict.is_honest) == (NONCES, 0, 0, True)


CHEATS: dict[str, Callable[[Computer], Computer]] = {
    "int8": lambda honest: with_few_bits(honest, 8),
    "fp8": with_fp8,
    "skip": lambda honest: without_layers(honest, 0),
}


@pytest.mark.parametrize("cheat", [*CHEATS, "random"])
def test_cheaper_work_is_refused(cheat: str) -> None:
    nonces = numpy.arange(64, dtype=numpy.uint64)
    ours = computer().compute(KEY, nonces)
    if cheat == "random":
        theirs = computer().compute(KEY + 1, nonces)
    else:
        theirs = CHEATS[cheat](computer()).compute(KEY, nonces)
    verdict = judge(apart(ours, theirs))
    assert not verdict.is_honest
    assert verdict.soft > 32


def test_a_shortened_distance_is_wrong_beside_a_true_artefact() -> None:
    ours = honest(FP32)
    shortened = replace(ours, distances=ours.distances - numpy.float32(0.02))
    assert judge(apart(ours, shortened)).hard == NONCES


def test_what_is_no_number_counts_as_wrong() -> None:
    verdict = judge(numpy.array([0.0, numpy.nan, numpy.inf]))
    assert (verdict.hard, verdict.is_honest) == (2, False)


def test_as_many_nonces_are_kept_as_the_closed_form_says() -> None:
    share, seeds, each = 0.2, 20, 200
    threshold = threshold_for(share, TINY.outputs)
    nonces = numpy.arange(each, dtype=numpy.uint64)
    found = [
        Computer.prepare(TINY, derive("seed", number)).compute(KEY, nonces).distances < threshold
        for number in range(seeds)
    ]
    spread = (share * (1 - share) / (seeds * each)) ** 0.5
    assert abs(numpy.mean(found) - share) < 4 * spread


def test_a_batch_fills_what_is_free_and_is_never_empty() -> None:
    free = round((weights_bytes(SMALL) + 10.5 * nonce_bytes(SMALL)) / 0.8)
    assert batch_size(SMALL, free) == 10
    assert batch_size(SMALL, 0) == 1
    assert batch_size(TINY, 1 << 40) == 512


def test_one_at_a_time_is_what_a_batch_gives() -> None:
    alone = computer().compute(KEY, numpy.array([17], numpy.uint64))
    assert abs(alone.distances[0] - honest(FP32).distances[17]) < 1e-5
