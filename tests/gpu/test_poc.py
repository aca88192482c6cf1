"""Proof of compute on a GPU: a processor's integers, values within the bounds, cheats refused, rates told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy
import pytest

from forms.poc.arithmetic import FP16, FP32, Arithmetic
from forms.poc.cheats import with_few_bits, without_layers
from forms.poc.computer import Computer, Results
from forms.poc.inputs import make_inputs, make_permutations
from forms.poc.philox import Array, words
from forms.poc.profile import SMALL, TINY
from forms.poc.verdict import errors_between, judge
from forms.poc.weights import make_weights

if TYPE_CHECKING:
    from forms.cuda.cupy_device import CupyDevice

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

KEY = 0xFEED
SEED = b"an epoch"
NONCES = numpy.arange(400, dtype=numpy.uint64)


@pytest.fixture(scope="session")
def cupy(gpu: CupyDevice) -> ModuleType:
    """The array module of this host's GPU."""
    import cupy

    return cupy  # type: ignore[no-any-return]


@cache
def on_host() -> Results:
    """400 small nonces, which take a processor about half a minute."""
    return batched(Computer.prepare(SMALL, SEED), 16)


def batched(computer: Computer, size: int) -> Results:
    parts = [computer.compute(KEY, NONCES[start : start + size]) for start in range(0, len(NONCES), size)]
    return Results(
        NONCES,
        numpy.concatenate([part.distances for part in parts]),
        numpy.concatenate([part.artefacts for part in parts]),
    )


def errors(one: Results, other: Results) -> Array:
    return errors_between(SMALL.outputs, (one.distances, one.artefacts), (other.distances, other.artefacts))


def test_integers_are_those_of_a_processor(cupy: ModuleType) -> None:
    assert numpy.array_equal(cupy.asnumpy(words(7, 3, 100_000, xp=cupy)), words(7, 3, 100_000))
    ours, theirs = make_weights(TINY, SEED), make_weights(TINY, SEED, cupy)
    assert numpy.array_equal(cupy.asnumpy(theirs.output), ours.output)
    assert numpy.array_equal(cupy.asnumpy(theirs.layers[2].down), ours.layers[2].down)
    for make in (make_inputs, make_permutations):
        assert numpy.array_equal(cupy.asnumpy(make(TINY, KEY, NONCES, cupy)), make(TINY, KEY, NONCES))


@pytest.mark.parametrize("size", [400, 64])
@pytest.mark.parametrize("arithmetic", [FP32, FP16], ids=lambda arithmetic: arithmetic.name)
def test_gpu_and_processor_confirm_each_other(
    cupy: ModuleType, arithmetic: Arithmetic, size: int, record_property: Callable[[str, object], None]
) -> None:
    settle = arithmetic.settle if arithmetic is FP32 else lambda values: values.astype("float16").astype("float32")
    there = batched(Computer.prepare(SMALL, SEED, replace(arithmetic, settle=settle), cupy), size)
    apart = errors(on_host(), there)
    record_property("error quantiles 0.5 0.9 0.99 1", numpy.quantile(apart, [0.5, 0.9, 0.99, 1]).tolist())
    assert judge(apart).soft == 0


@pytest.mark.parametrize("cheat", ["int8", "skip-layer"])
def test_cheaper_work_is_refused(cupy: ModuleType, cheat: str) -> None:
    honest = Computer.prepare(SMALL, SEED, xp=cupy)
    cheap = with_few_bits(honest, 8) if cheat == "int8" else without_layers(honest, SMALL.layers - 1)
    assert not judge(errors(on_host(), batched(cheap, 400))).is_honest


def test_rates_are_told(cupy: ModuleType, gpu: CupyDevice, record_property: Callable[[str, object], None]) -> None:
    started = time.perf_counter()
    computer = Computer.prepare(SMALL, SEED, xp=cupy)
    cupy.cuda.runtime.deviceSynchronize()
    prepared = time.perf_counter()
    computer.compute(KEY, NONCES)
    warm = time.perf_counter()
    found = computer.compute(KEY, NONCES)
    seconds = time.perf_counter() - warm
    record_property("device", cupy.cuda.runtime.getDeviceProperties(gpu.ordinal)["name"].decode())
    record_property("init_s", prepared - started)
    record_property("nonces_per_s", len(NONCES) / seconds)
    assert len(found.distances) == len(NONCES)
