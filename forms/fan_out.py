"""Spreads many calls over many nodes: who runs what next, again elsewhere, or no more. Pure.

Each node runs one call at a time; what is not begun is planned anew whenever something ends, with what was learnt of
the nodes meanwhile. So a node that dies gives back its call, one that lags gets fewer, and the first answer wins.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from forms.health import DOWN_S
from forms.schedule import Seconds, schedule

STRAGGLES = 3.0
"""Times its prediction after which a call is run again elsewhere."""
SHORTEST_WAIT_S = 0.1
"""No call straggles before: predictions of milliseconds are not worth more."""
MOST_TRIES = 4
MOST_PLANNED = 256
"""Calls that wait; what comes before so many are left hardly matters."""
WARMTH = 0.5
"""How much of a call's actual over its predicted time enters what is expected of its node."""
DISCOURAGED = 1000.0
"""A node that failed a call gets that very call again only where there is no other."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run call `job` on `node`. number: of this try."""

    number: int
    job: int
    node: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody wants the result of this try any more."""

    number: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`job` failed wherever it was tried."""

    job: int


Effect = Run | Stop | GiveUp


@dataclass(slots=True)
class _Try:
    run: Run
    began: float
    predicted_s: float
    is_late: bool = False

    @property
    def late_at(self) -> float:
        return self.began + max(SHORTEST_WAIT_S, STRAGGLES * self.predicted_s)

    def left_s(self, now: float) -> float:
        """What it should still take; what is overdue may take as long again."""
        spent = now - self.began
        return self.predicted_s - spent if spent < self.predicted_s else spent


@dataclass(slots=True)
class FanOut:
    """One fan-out. seconds: predicted, of each job on each node."""

    seconds: Seconds
    nodes: int
    _waiting: set[int] = field(init=False)
    _open: set[int] = field(init=False)
    _tries: dict[int, _Try] = field(default_factory=dict)
    _failed_on: dict[int, list[int]] = field(default_factory=dict)
    _down_until: dict[int, float] = field(default_factory=dict)
    _slowness: dict[int, float] = field(default_factory=dict)
    _next: int = 0

    def __post_init__(self) -> None:
        self._waiting = set(range(len(self.seconds)))
        self._open = set(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether every job has its result, or none."""
        return not self._open

    @property
    def next_tick(self) -> float | None:
        """When to call `tick`; None: nothing changes with time."""
        lasting = [one.late_at for one in self._tries.values() if not one.is_late]
        has_need = self._waiting or len(lasting) < len(self._tries)
        return min(lasting + (list(self._down_until.values()) if has_need else []), default=None)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed; also how a fan-out begins."""
        return self._go_on(now)

    def finished(self, number: int, now: float) -> list[Effect]:
        """Try `number` has brought a result, an error of the call's own included. The first one counts."""
        done = self._tries.pop(number, None)
        if done is None:
            return []
        self._learn(done, now)
        self._open.discard(done.run.job)
        others = [one.run.number for one in self._tries.values() if one.run.job == done.run.job]
        for other in others:
            del self._tries[other]
        return [*map(Stop, others), *self._go_on(now)]

    def failed(self, number: int, now: float, *, is_node_well: bool = False) -> list[Effect]:
        """Try `number` came to nothing: its node is gone, or cannot do this one call (is_node_well)."""
        lost = self._tries.pop(number, None)
        if lost is None:
            return []
        job, node = lost.run.job, lost.run.node
        if not is_node_well:
            self._down_until[node] = now + DOWN_S
        self._failed_on.setdefault(job, []).append(node)
        if any(one.run.job == job for one in self._tries.values()):
            return self._go_on(now)
        if len(self._failed_on[job]) >= MOST_TRIES:
            self._open.discard(job)
            return [GiveUp(job), *self._go_on(now)]
        self._waiting.add(job)
        return self._go_on(now)

    def _go_on(self, now: float) -> list[Effect]:
        self._down_until = {node: until for node, until in self._down_until.items() if now < until}
        return [*self._begin_waiting(now), *self._repeat_stragglers(now)]

    def _usable(self) -> list[int]:
        """Nodes that did not fail lately; where all did, all."""
        well = [node for node in range(self.nodes) if node not in self._down_until]
        return well or list(range(self.nodes))

    def _idle(self) -> list[int]:
        busy = {one.run.node for one in self._tries.values()}
        return [node for node in self._usable() if node not in busy]

    def _begin_waiting(self, now: float) -> list[Run]:
        if not self._waiting or not (idle := self._idle()):
            return []
        first = self._longest(idle) if len(self._waiting) > MOST_PLANNED else self._planned(idle, now)
        runs = [self._run(job, node, now) for node, job in first]
        self._waiting -= {run.job for run in runs}
        return runs

    def _planned(self, idle: list[int], now: float) -> list[tuple[int, int]]:
        """What a plan of all that waits has idle nodes do first."""
        nodes, jobs = self._usable(), sorted(self._waiting)
        planned = schedule(
            [[self._expected_s(job, node) for node in nodes] for job in jobs],
            [self._busy_s(node, now) for node in nodes],
        )
        return [(node, jobs[mine[0]]) for node, mine in zip(nodes, planned.jobs, strict=True) if mine and node in idle]

    def _longest(self, idle: list[int]) -> list[tuple[int, int]]:
        """With so much to do, whoever is idle takes the longest that is left."""
        longest = heapq.nlargest(len(idle), sorted(self._waiting), key=lambda job: min(self.seconds[job]))
        return list(zip(idle, longest, strict=True))

    def _repeat_stragglers(self, now: float) -> list[Run]:
        for one in self._tries.values():
            one.is_late = now >= one.late_at
        late = sorted((one for one in self._tries.values() if one.is_late), key=lambda one: one.began)
        runs = [self._repeat(one.run.job, now) for one in late if not self._waiting]
        return [run for run in runs if run is not None]

    def _repeat(self, job: int, now: float) -> Run | None:
        """Run it on an idle node too, unless it runs twice already."""
        idle = [node for node in self._idle() if node not in self._failed_on.get(job, ())]
        if not idle or sum(one.run.job == job for one in self._tries.values()) > 1:
            return None
        return self._run(job, min(idle, key=lambda node: self._expected_s(job, node)), now)

    def _run(self, job: int, node: int, now: float) -> Run:
        self._next += 1
        run = Run(self._next, job, node)
        self._tries[run.number] = _Try(run, now, self._expected_s(job, node))
        return run

    def _expected_s(self, job: int, node: int) -> float:
        discouraged = DISCOURAGED if node in self._failed_on.get(job, ()) else 1.0
        return self.seconds[job][node] * self._slowness.get(node, 1.0) * discouraged

    def _busy_s(self, node: int, now: float) -> float:
        return sum(one.left_s(now) for one in self._tries.values() if one.run.node == node)

    def _learn(self, done: _Try, now: float) -> None:
        node = done.run.node
        was = self._slowness.get(node, 1.0)
        seen = (now - done.began) / max(self.seconds[done.run.job][node], 1e-6)
        self._slowness[node] = was + WARMTH * (seen - was)
