"""10: an entry made again is the one that was held, and whoever holds half is too slow."""

from __future__ import annotations

import time

import numpy
import pytest

from forms.poc.philox import Array
from forms.poc.residency import TableShape, make_table, probe, recompute, steps_hold

SHAPE = TableShape(b"seed", entries=1 << 12, levels=5)
STEPS = 24
STARTS = numpy.arange(16, dtype=numpy.uint64) * numpy.uint64(97)


@pytest.fixture(scope="module")
def table() -> tuple[Array, Array]:
    return make_table(SHAPE)


def test_entries_made_again_are_those_of_the_table(table: tuple[Array, Array]) -> None:
    places = numpy.array([0, 1, 4095, 2048, 7], numpy.uint64)
    for kept in (0, 1):
        assert numpy.array_equal(recompute(SHAPE, SHAPE.levels - 1 + kept, places), table[kept][places])


def test_chains_are_checked_without_a_table(table: tuple[Array, Array]) -> None:
    visited = probe(SHAPE, STARTS, STEPS, lambda level, places: table[level][places])
    assert visited.shape == (STEPS + 1, len(STARTS))
    assert steps_hold(SHAPE, visited, (0, 7, STEPS - 1))
    visited[8, 3] ^= numpy.uint64(1)
    assert not steps_hold(SHAPE, visited, (7,))
    assert steps_hold(SHAPE, visited, (0,))


def test_who_holds_half_misses_the_deadline(table: tuple[Array, Array]) -> None:
    def half(level: int, places: Array) -> Array:
        is_held = places < SHAPE.entries // 2
        values = table[level][places]
        values[~is_held] = recompute(SHAPE, SHAPE.levels - 1 + level, places[~is_held])
        return values

    def whole(level: int, places: Array) -> Array:
        return table[level][places]

    def taken(read: object) -> float:
        started = time.perf_counter()
        probe(SHAPE, STARTS, STEPS, read)  # type: ignore[arg-type]
        return time.perf_counter() - started

    holder = min(taken(whole) for _ in range(5))
    deadline = 5 * holder
    assert min(taken(half) for _ in range(3)) > deadline
