"""Runs one schedule of faults with every invariant checked, and says how to see it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gossip.simulator.faults import LARGE, Faults, Schedule, draw_schedule
from gossip.simulator.host import Host
from gossip.simulator.hosting import STEP_S, Hosting
from gossip.simulator.invariants import (
    Invariants,
    Violation,
    disagreements,
    is_parted_for_good,
    loose_ends,
    unsettled_claims,
    wrongly_present,
)
from gossip.simulator.inviting import Inviting
from gossip.simulator.keys import FakeKeys, RealKeys
from gossip.simulator.network import Conditions
from gossip.simulator.world import Settings, World

AGREE_S = 60.0
"""After the faults stop, all views are equal within this: the longest back-off of a link, twice, gives it its size."""

TIDY_S = 60.0
CLAIM_S = 30.0
"""Two periods in which a newcomer settles, 10 s each, and one to get leases in."""

INTRODUCERS = 3
LARGE_STEP_S = 5.0
"""How often a node of a large mesh takes part in the election: drawing 200 views of 200 nodes is what costs most."""

LOOK_S = 0.5
LARGE_LOOK_S = 2.0
"""How often it is looked whether peace has come."""

HEALTHY_S = 60.0
CRASH_S = 12.0
"""A crash in a healthy mesh of at most 8 is known to all within this."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a schedule went. digest: of everything that every engine did.  calm_s: from the last fault to agreement."""

    schedule: Schedule
    digest: str
    calm_s: float
    virtual_s: float
    trace: tuple[str, ...]


class Failed(Exception):
    """A schedule broke an invariant; its text says which, when, what led to it and how to see it again."""

    def __init__(self, schedule: Schedule, violation: Violation, at_s: float, trace: list[str]) -> None:
        lines = [
            f"seed {schedule.seed}, {schedule.nodes} nodes, {at_s:.3f} s: {violation}",
            "faults:",
            *(f"  {fault}" for fault in schedule.faults),
            "last events:",
            *(f"  {line}" for line in trace),
            f"see it again: {command(schedule)}",
        ]
        super().__init__("\n".join(lines))
        self.violation = violation
        self.schedule = schedule


def command(schedule: Schedule) -> str:
    """What to type to run this schedule by itself."""
    usual = draw_schedule(schedule.seed)
    nodes = "" if usual.nodes == schedule.nodes else f" --nodes {schedule.nodes}"
    return f"meshd sim --schedules 1 --seed {schedule.seed}{nodes} --trace"


def run_schedule(schedule: Schedule) -> Outcome:
    """Run it to its end. Raises Failed."""
    run = _Run(schedule)
    try:
        calm_s = run.through()
    except Violation as violation:
        at_s = run.world.now - run.started
        raise Failed(schedule, violation, at_s, run.world.trace.last()) from violation
    trace = tuple(run.world.trace.last())
    return Outcome(schedule, run.world.trace.digest, calm_s, run.world.now - run.started, trace)


class _Run:
    def __init__(self, schedule: Schedule) -> None:
        seed = schedule.seed
        settings = Settings(schedule.conditions, silence_s=schedule.silence_s)
        keys = RealKeys(str(seed)) if schedule.has_real_keys else FakeKeys()
        self.schedule = schedule
        self._is_large = schedule.nodes > LARGE
        self.world = World(seed, settings, keys)
        self.started = self.world.now
        self.hosts = [self.world.add(f"n{index}") for index in range(schedule.nodes)]
        step_s = LARGE_STEP_S if self._is_large else STEP_S
        self.hosting = Hosting(self.world, seed, step_s, wants_quorum=schedule.wants_quorum)
        self.inviting = Inviting(self.world, self.hosts[0], seed)
        self.invariants = Invariants(self.world, self.hosting, self.inviting)
        self.world.watchers += [self.invariants, self.inviting, self.hosting]
        self.faults = Faults(self.world, self.hosts, schedule, self.hosting, self.inviting)

    def through(self) -> float:
        """Form a mesh, let the faults happen, and wait for peace: how long that took."""
        world, dice = self.world, self.world.dice
        for host in self.hosts:
            world.agenda.after(dice.random(), partial(self._start, host))
        self.faults.plan()
        world.run(self.schedule.faults_s)
        self._calm_down(self.schedule.calm)
        if is_parted_for_good(world):
            return 0.0
        calm_s = self._await("agreement", AGREE_S, lambda: disagreements(world))
        self._await("one claim", CLAIM_S, lambda: unsettled_claims(world, self.hosting))
        if self.schedule.ends_with_crash and len(world.running()) > 1:
            self._crash_one()
        if not self._is_large:
            self._await("tidy", TIDY_S, lambda: loose_ends(world))
        self.invariants.check_merge_laws()
        return calm_s

    def _start(self, host: Host) -> None:
        """For the first time, with a token that names a few addresses: one of them may be gone already."""
        if host.process is None:
            self.world.start(host, [one for one in self.hosts[:INTRODUCERS] if one is not host])

    def _calm_down(self, conditions: Conditions) -> None:
        """No more faults: everyone can reach everyone who is up, and nobody stands still or lies."""
        self.world.network.conditions = conditions
        self.world.carrier.liars.clear()
        for host in self.hosts:
            self.world.resume(host)
        self.world.run(1.0)  # until all have noticed

    def _crash_one(self) -> None:
        """One more crash, when all are well: everyone knows of it in time."""
        world = self.world
        engines = [process.engine for process in world.running()]
        self._await("health", HEALTHY_S, lambda: ["unwell"] if any(engine.health for engine in engines) else [])
        victim = world.dice.choice([process.host for process in world.running()])
        world.kill(victim)
        self._await("crash known", CRASH_S, lambda: wrongly_present(world, victim))

    def _await(self, name: str, limit_s: float, wanting: Callable[[], list[str]]) -> float:
        took = self.world.run_until(lambda: not wanting(), limit_s, LARGE_LOOK_S if self._is_large else LOOK_S)
        if took is None:
            raise Violation(name, f"not within {limit_s:.0f} s: {'; '.join(wanting()[:5])}")
        return took
