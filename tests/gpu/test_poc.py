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
from forms.poc.cheats import with_few_bits, with_fp8, without_layers
from forms.poc.computer import Computer, Results
from forms.poc.inputs import make_inputs, make_permutations
from forms.poc.philox import Array, words
from forms.poc.profile import SMALL, TINY
from forms.poc.residency import TableShape, make_table, probe, recompute, steps_hold
from forms.poc.verdict import errors_between, judge
from forms.poc.verification import SAMPLES
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


CHEATS: dict[str, Callable[[Computer], Computer]] = {
    "int8": lambda honest: with_few_bits(honest, 8),
    "fp8": with_fp8,
    "skip-layer": lambda honest: without_layers(honest, SMALL.layers - 1),
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_cheaper_work_is_refused(cupy: ModuleType, cheat: Callable[[Computer], Computer]) -> None:
    cheap = cheat(Computer.prepare(SMALL, SEED, xp=cupy))
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
    opened = time.perf_counter()
    computer.compute(KEY, NONCES[:SAMPLES])
    record_property("verify_over_generate", (time.perf_counter() - opened) / seconds)
    assert len(found.distances) == len(NONCES)


def test_residency_tells_the_devices_memory_from_the_hosts_and_from_making_it_again(
    cupy: ModuleType, record_property: Callable[[str, object], None]
) -> None:
    """Until this has passed on a card nothing attests VRAM. The deadline: three times what the device's reads take."""
    shape, chains, steps = TableShape(b"seed", entries=1 << 24), 1 << 16, 64
    table = make_table(shape, cupy)
    on_host = [cupy.asnumpy(level) for level in table]
    starts = cupy.arange(chains, dtype=cupy.uint64) * cupy.uint64(97)

    def from_device(level: int, places: Array) -> Array:
        return table[level][places]

    def from_host(level: int, places: Array) -> Array:
        return cupy.asarray(on_host[level][cupy.asnumpy(places)])

    def made_again(level: int, places: Array) -> Array:
        # In slices: one entry takes 6,561 words of work space.
        slices = [places[start : start + 4096] for start in range(0, chains, 4096)]
        return cupy.concatenate([recompute(shape, shape.levels - 1 + level, one, cupy) for one in slices])

    def taken_s(read: Callable[[int, Array], Array], count: int) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            probe(shape, starts, count, read, cupy)
            cupy.cuda.runtime.deviceSynchronize()
            best = min(best, (time.perf_counter() - started) / count)
        return best

    held, host, again = taken_s(from_device, steps), taken_s(from_host, steps), taken_s(made_again, 4)
    record_property("seconds a step: device, host RAM, recomputed", [held, host, again])
    assert steps_hold(shape, cupy.asnumpy(probe(shape, starts[:16], steps, from_device, cupy)), (0, 7, steps - 1))
    assert min(host, again) > 3 * held
