"""Which of several nodes gets which of several jobs, so that the last is done soonest. Pure.

Longest processing time first onto the node that finishes earliest (Graham 1969). With few jobs LPT errs most, up to 1.7
times the optimum on nodes that differ by job; there a search goes back on its decisions as far as a budget lasts.
docs/decisions/0022-where-a-call-runs.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

FEW_JOBS = 10
MOST_STEPS = 2000
"""Of the search: about 4 ms."""

Seconds = Sequence[Sequence[float]]
"""Of each job on each node."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """jobs: of each node, in the order to run them.  finish_s: when the last of all is done."""

    jobs: tuple[tuple[int, ...], ...]
    finish_s: float


def schedule(seconds: Seconds, ready_s: Sequence[float]) -> Schedule:
    """Give every job a node, and each node its longest jobs first. ready_s: when each node is free."""
    given = listed(seconds, ready_s)
    if len(seconds) <= FEW_JOBS:
        search = _Search(seconds, given, span(given, seconds, ready_s))
        search.go(_longest_first(seconds), {}, list(ready_s), 0.0)
        given = search.best
    nodes = range(len(ready_s))
    mine = ([job for job, at in enumerate(given) if at == node] for node in nodes)
    in_order = (
        tuple(sorted(jobs, key=lambda job: -seconds[job][node])) for node, jobs in zip(nodes, mine, strict=True)
    )
    return Schedule(tuple(in_order), span(given, seconds, ready_s))


def listed(seconds: Seconds, ready_s: Sequence[float]) -> list[int]:
    """The node of each job by LPT alone."""
    finish = list(ready_s)
    given = [0] * len(seconds)
    for job in _longest_first(seconds):
        node = min(range(len(finish)), key=lambda at: (finish[at] + seconds[job][at], at))
        finish[node] += seconds[job][node]
        given[job] = node
    return given


def span(given: Sequence[int], seconds: Seconds, ready_s: Sequence[float]) -> float:
    """When the last job is done. given: the node of each; nodes without one do not count."""
    finish = list(ready_s)
    for job, node in enumerate(given):
        finish[node] += seconds[job][node]
    return max((finish[node] for node in given), default=0.0)


def _longest_first(seconds: Seconds) -> list[int]:
    return sorted(range(len(seconds)), key=lambda job: (-min(seconds[job]), job))


@dataclass(slots=True)
class _Search:
    """Depth first; what cannot beat the best is not followed. best: the node of each job."""

    seconds: Seconds
    best: list[int]
    best_s: float
    steps_left: int = field(default=MOST_STEPS)

    def go(self, jobs: list[int], given: dict[int, int], finish: list[float], span_s: float) -> None:
        """Try the nodes of the first of `jobs`, that where it is done earliest first, then those of the rest."""
        if not jobs:
            self.best, self.best_s = [given[job] for job in range(len(self.best))], span_s
            return
        row = self.seconds[jobs[0]]
        for node in sorted(range(len(finish)), key=lambda at: finish[at] + row[at]):
            before = finish[node]
            then_s = max(span_s, before + row[node])
            if then_s >= self.best_s or not self.steps_left:
                break
            self.steps_left -= 1
            finish[node] = before + row[node]
            self.go(jobs[1:], given | {jobs[0]: node}, finish, then_s)
            finish[node] = before
