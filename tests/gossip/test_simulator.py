"""The mesh in virtual time: a thousand seeds keep every rule, and each of them does the same again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from gossip.roster import Roster, Verdict
from gossip.simulator.faults import Kind, draw_schedule
from gossip.simulator.schedules import Failed, command, run_schedule

BASE_SEED = 20_000
SEEDS = 1000
CHUNK = 50
LARGE_SEEDS = 3
DIGESTS = """
import logging
from gossip.simulator.faults import draw_schedule
from gossip.simulator.schedules import run_schedule
logging.disable(logging.CRITICAL)
print([run_schedule(draw_schedule(seed)).digest for seed in {seeds}])
"""


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Thousands of nodes die here, and each says so."""
    logging.getLogger("meshd").setLevel(logging.ERROR)


@pytest.mark.parametrize("first", range(BASE_SEED, BASE_SEED + SEEDS, CHUNK))
def test_every_rule_holds_whatever_befalls_a_small_mesh(first: int) -> None:
    print(f"seeds {first} to {first + CHUNK - 1}")
    for seed in range(first, first + CHUNK):
        run_schedule(draw_schedule(seed))


def test_the_seeds_see_every_fault_and_both_kinds_of_keys() -> None:
    schedules = [draw_schedule(seed) for seed in range(BASE_SEED, BASE_SEED + SEEDS)]
    assert {fault.kind for schedule in schedules for fault in schedule.faults} == set(Kind)
    assert {schedule.nodes for schedule in schedules} >= {2, 3, 4, 5, 6, 8}
    assert sum(schedule.has_real_keys for schedule in schedules) >= SEEDS / 50


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(BASE_SEED, BASE_SEED + LARGE_SEEDS))
def test_every_rule_holds_in_a_mesh_of_two_hundred(seed: int) -> None:
    schedule = draw_schedule(seed, nodes=200)
    assert len(schedule.faults) >= 8  # some come in pairs
    run_schedule(schedule)


def _digests(seeds: list[int], hash_seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", DIGESTS.format(seeds=seeds)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    ).stdout


def test_a_seed_does_the_same_under_any_hash_seed() -> None:
    real = next(seed for seed in range(BASE_SEED, BASE_SEED + SEEDS) if draw_schedule(seed).has_real_keys)
    seeds = [BASE_SEED, BASE_SEED + 1, BASE_SEED + 2, BASE_SEED + 3, real]
    first, second = _digests(seeds, "1"), _digests(seeds, "4242")
    assert first == second
    assert len(set(first.split())) == len(seeds)


def test_what_fails_says_when_after_what_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Roster, "_refute", lambda self: Verdict.STALE)
    with pytest.raises(Failed) as caught:
        for seed in range(BASE_SEED, BASE_SEED + 50):
            run_schedule(draw_schedule(seed))
    schedule, text = caught.value.schedule, str(caught.value)
    assert f"seed {schedule.seed}, {schedule.nodes} nodes" in text
    assert all(str(fault) in text for fault in schedule.faults)
    assert text.endswith(f"see it again: meshd sim --schedules 1 --seed {schedule.seed} --trace")
    with pytest.raises(Failed) as again:
        run_schedule(schedule)
    assert str(again.value) == text


def test_the_command_of_a_larger_mesh_names_its_size() -> None:
    assert command(draw_schedule(5, nodes=200)) == "meshd sim --schedules 1 --seed 5 --nodes 200 --trace"
