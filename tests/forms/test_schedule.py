"""Schedules beside the best there is, found by trying all."""

from __future__ import annotations

import csv
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from forms.schedule import Schedule, Seconds, listed, schedule, span

FOXHOP = Path(__file__).with_name("foxhop-variants.csv")
"""Six point additions on three GPUs, milliseconds a batch of 1,024 shots, as the foxhop page has them."""


def optimum(seconds: Seconds, ready_s: list[float]) -> float:
    return min(span(given, seconds, ready_s) for given in itertools.product(range(len(ready_s)), repeat=len(seconds)))


def foxhop() -> list[list[float]]:
    with FOXHOP.open() as file:
        return [[float(row[f"{gpu}_ms"]) for gpu in ("rtx3090", "rtx4090", "p40")] for row in csv.DictReader(file)]


def test_foxhops_six_variants_on_three_hosts() -> None:
    seconds, ready = foxhop(), [0.0] * 3
    assert span([0] * 6, seconds, ready) == pytest.approx(629.5, abs=0.1)
    assert optimum(seconds, ready) == pytest.approx(188.5)
    found = schedule(seconds, ready)
    assert found.finish_s == pytest.approx(188.5)
    assert sorted(itertools.chain(*found.jobs)) == list(range(6))
    assert span(listed(seconds, ready), seconds, ready) == pytest.approx(195.8)


def uniform(dice: random.Random, jobs: int, nodes: int) -> Seconds:
    speeds = [dice.choice([1.0, 0.51, 1.84, dice.uniform(0.1, 3)]) for _ in range(nodes)]
    work = [dice.choice([dice.uniform(0.1, 1), dice.expovariate(1) + 0.01]) for _ in range(jobs)]
    return [[one * speed for speed in speeds] for one in work]


def with_starts(dice: random.Random, jobs: int, nodes: int) -> Seconds:
    """The start-up floor that the foxhop page notes."""
    floors = [dice.uniform(0, 2) for _ in range(nodes)]
    return [[floor + one for floor, one in zip(floors, row, strict=True)] for row in uniform(dice, jobs, nodes)]


def unrelated(dice: random.Random, jobs: int, nodes: int) -> Seconds:
    return [[dice.uniform(0.05, 1) for _ in range(nodes)] for _ in range(jobs)]


@pytest.mark.parametrize("kind", [uniform, with_starts, unrelated])
def test_within_1_15_of_the_optimum(kind: Callable[[random.Random, int, int], Seconds]) -> None:
    for seed in range(60):
        dice = random.Random(seed)
        jobs, nodes = dice.randint(1, 8), dice.randint(1, 3)
        seconds = kind(dice, jobs, nodes)
        ready = [dice.choice([0.0, dice.uniform(0, 2)]) for _ in range(nodes)]
        assert schedule(seconds, ready).finish_s <= 1.15 * optimum(seconds, ready), f"{kind.__name__}, seed {seed}"


def test_the_longest_come_first_and_every_job_once() -> None:
    dice = random.Random(5)
    seconds = unrelated(dice, 200, 4)
    found = schedule(seconds, [0.0] * 4)
    assert sorted(itertools.chain(*found.jobs)) == list(range(200))
    for node, mine in enumerate(found.jobs):
        taken = [seconds[job][node] for job in mine]
        assert taken == sorted(taken, reverse=True)
    assert found.finish_s < 1.05 * max(sum(row[node] for row in seconds) for node in range(4))


def test_nothing_to_do() -> None:
    assert schedule([], [3.0, 0.0]) == Schedule(((), ()), 0.0)
