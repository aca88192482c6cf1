"""A fan-out in time of our own: nodes that lag, die and come back, and what becomes of every call."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from forms.fan_out import MOST_TRIES, Effect, FanOut, GiveUp, Run, Stop


@dataclass
class World:
    """Nodes that take `actual(job, node)` seconds; None: they never answer. dies: node → when."""

    fan_out: FanOut
    actual: Callable[[int, int], float | None]
    dies: dict[int, float] = field(default_factory=dict)
    now: float = 0.0
    results: dict[int, int] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    begun: list[Run] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    _agenda: list[tuple[float, int, bool]] = field(default_factory=list)

    def run(self) -> float:
        """Until it is over; when that is."""
        self._perform(self.fan_out.tick(0.0))
        for _ in range(10_000):
            if self.fan_out.is_over:
                return self.now
            tick = self.fan_out.next_tick
            if self._agenda and (tick is None or self._agenda[0][0] <= tick):
                self.now, number, is_done = heapq.heappop(self._agenda)
                if number in self.stopped:
                    continue
                if is_done:
                    job = next(run.job for run in self.begun if run.number == number)
                    self.results.setdefault(job, number)
                happened = self.fan_out.finished if is_done else self.fan_out.failed
                self._perform(happened(number, self.now))
            else:
                assert tick is not None, "nothing will ever happen"
                self.now = max(tick, self.now)
                self._perform(self.fan_out.tick(self.now))
        raise AssertionError("it does not end")

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Run():
                    self._begin(effect)
                case Stop(number):
                    self.stopped.append(number)
                case GiveUp(job):
                    self.given_up.append(job)

    def _begin(self, run: Run) -> None:
        self.begun.append(run)
        takes = self.actual(run.job, run.node)
        death = self.dies.get(run.node)
        if death is not None and (takes is None or self.now + takes > death):
            heapq.heappush(self._agenda, (max(self.now, death) + 0.01, run.number, False))
        elif takes is not None:
            heapq.heappush(self._agenda, (self.now + takes, run.number, True))


def uniform(jobs: int, speeds: tuple[float, ...], seconds: float = 1.0) -> list[list[float]]:
    return [[seconds * speed for speed in speeds] for _ in range(jobs)]


def test_the_faster_node_gets_more() -> None:
    seconds = uniform(9, (1.0, 0.5))
    world = World(FanOut(seconds, 2), lambda job, node: seconds[job][node])
    assert world.run() == pytest.approx(3.0)
    assert sum(run.node == 1 for run in world.begun) == 6
    assert len(world.results) == 9
    assert len(world.begun) == 9


def test_a_node_that_is_slower_than_it_said_gets_less() -> None:
    seconds = uniform(12, (1.0, 1.0))
    world = World(FanOut(seconds, 2), lambda job, node: 1.0 if node == 0 else 2.5)
    assert world.run() < 10.1
    assert sum(run.node == 0 for run in world.begun) >= 8


def test_a_dead_nodes_call_is_run_elsewhere_and_it_gets_no_more() -> None:
    seconds = uniform(8, (1.0, 0.51, 1.84))
    world = World(FanOut(seconds, 3), lambda job, node: seconds[job][node], dies={1: 0.7})
    world.run()
    assert sorted(world.results) == list(range(8))
    assert world.given_up == []
    assert sum(run.node == 1 for run in world.begun) == 2


def test_a_straggler_is_run_again_elsewhere_and_the_first_answer_wins() -> None:
    seconds = uniform(3, (1.0, 1.0))
    world = World(FanOut(seconds, 2), lambda job, node: None if (job, node) == (1, 1) else 1.0)
    assert world.run() == pytest.approx(4.0)
    again = [run for run in world.begun if run.job == 1]
    assert [run.node for run in again] == [1, 0]
    assert world.stopped == [again[0].number]


def test_a_straggler_that_comes_home_first_counts_and_its_copy_is_stopped() -> None:
    seconds = uniform(1, (1.0, 1.0))
    world = World(FanOut(seconds, 2), lambda job, node: 3.5 if node == 0 else 3.0)
    assert world.run() == pytest.approx(3.5)
    assert [run.node for run in world.begun] == [0, 1]
    assert world.results == {0: world.begun[0].number}
    assert world.stopped == [world.begun[1].number]


def test_a_call_runs_at_two_places_at_most() -> None:
    seconds = uniform(1, (1.0, 1.0, 1.0))
    world = World(FanOut(seconds, 3), lambda job, node: 30.0)
    assert world.run() == pytest.approx(30.0)
    assert [run.node for run in world.begun] == [0, 1]


def test_a_call_that_fails_wherever_it_runs_is_given_up() -> None:
    fan_out = FanOut(uniform(1, (1.0, 1.0)), 2)
    effects, failures = fan_out.tick(0.0), 0
    while effects and isinstance(effects[0], Run):
        failures += 1
        effects = fan_out.failed(effects[0].number, 0.1 * failures)
    assert effects == [GiveUp(0)]
    assert failures == MOST_TRIES
    assert fan_out.is_over


def test_when_every_node_is_down_they_are_asked_all_the_same() -> None:
    fan_out = FanOut(uniform(1, (1.0, 1.0)), 2)
    [first] = fan_out.tick(0.0)
    assert isinstance(first, Run)
    [second] = fan_out.failed(first.number, 0.1)
    assert isinstance(second, Run)
    assert second.node != first.node
    [third] = fan_out.failed(second.number, 0.2)
    assert isinstance(third, Run)


def test_thousands_of_calls_are_spread_in_no_time() -> None:
    seconds = [[1.0 + job % 7, 2.0 + job % 7, 0.5] for job in range(2000)]
    world = World(FanOut(seconds, 3), lambda job, node: seconds[job][node])
    spent = world.run()
    assert sorted(world.results) == list(range(2000))
    assert spent < 1.25 * 2000 * 0.5
    assert sum(run.node == 2 for run in world.begun) > 1000


@pytest.mark.parametrize("seed", range(40))
def test_every_call_has_one_result_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    jobs, nodes = dice.randint(1, 20), dice.randint(1, 5)
    seconds = [[dice.uniform(0.05, 2) for _ in range(nodes)] for _ in range(jobs)]
    dies = {node: dice.uniform(0, 5) for node in range(1, nodes) if dice.random() < 0.4}
    world = World(FanOut(seconds, nodes), lambda job, node: seconds[job][node] * dice.uniform(0.3, 6), dies)
    world.run()
    assert sorted(world.results) == list(range(jobs)), f"seed {seed}"
    assert world.given_up == []
