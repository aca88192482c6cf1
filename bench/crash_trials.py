"""How soon the others know that one of five real agents was killed: `python -m bench.crash_trials [--json]`.

Each trial kills one of five with SIGKILL, reads in the logs of the other four when they counted it as suspect and
as dead, and starts it again. Every agent has its turn, the founder too. What five idle agents cost stands beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.footprint import Footprint, footprint
from meshd.local_agents import local_agents
from meshd.local_mesh import LocalMesh

PATIENCE_S = 60.0
SETTLED_S = 3.0
"""Between the last agent's return and the next crash: what is left of the return has been said by then."""

MEDIAN_GOAL_S, WORST_GOAL_S = 5.0, 9.0
BUCKET_S = 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds after the kill. suspected: when the first suspected it.  known: when each of the others counted it dead.

    slandered: changes for the worse about anyone else, until it was back.
    """

    victim: str
    suspected: float
    known: tuple[float, ...]
    slandered: int

    @property
    def known_to_all(self) -> float:
        return max(self.known)


async def run_trials(nodes: int, trials: int, idle_s: float) -> tuple[list[Trial], Footprint]:
    """The trials, and what the idle mesh cost before them."""
    names = [f"n{number}" for number in range(nodes)]
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
        async with LocalMesh(local_agents(Path(folder))) as mesh:
            await mesh.found(names)
            await asyncio.sleep(SETTLED_S)
            cost = await footprint(mesh, idle_s)
            done = []
            for number in range(trials):
                done.append(await _trial(mesh, names[number % nodes], pause_s=SETTLED_S + (number * 0.37) % 1))
                print(_told(number, done[-1]), flush=True)
            return done, cost


async def _trial(mesh: LocalMesh, victim: str, pause_s: float) -> Trial:
    """pause_s: varies, so that no trial falls on the same beat of the others' clocks."""
    await asyncio.sleep(pause_s)
    killed = await mesh.kill(victim)
    suspected = await mesh.until_told(victim, "suspect", killed, PATIENCE_S)
    known = await mesh.until_told(victim, "dead", killed, PATIENCE_S)
    await mesh.start_again(victim)
    await mesh.until_met()
    others = [one for one in mesh.changes(killed) if one.subject != victim and one.observer != victim]
    slandered = sum(one.state != "alive" for one in others)
    return Trial(victim, min(suspected.values()), tuple(sorted(known.values())), slandered)


def _told(number: int, trial: Trial) -> str:
    known = " ".join(f"{seconds:5.2f}" for seconds in trial.known)
    return f"{number + 1:3} {trial.victim}: suspected after {trial.suspected:5.2f} s, dead in each view after {known} s"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def histogram(values: Sequence[float]) -> str:
    """How many fell into each half second."""
    counts: dict[float, int] = {}
    for value in values:
        start = value // BUCKET_S * BUCKET_S
        counts[start] = counts.get(start, 0) + 1
    return ", ".join(f"{start:.1f}–{start + BUCKET_S:.1f} s: {count}" for start, count in sorted(counts.items()))


def rows(trials: list[Trial], cost: Footprint) -> list[dict[str, object]]:
    """In the shape of `meshd bench`; there is nothing bare to compare a crash with."""
    known = [trial.known_to_all for trial in trials]
    suspected = [trial.suspected for trial in trials]
    figures = [
        ("live-crash-median", statistics.median(known), "s", MEDIAN_GOAL_S),
        ("live-crash-p90", percentile(known, 0.9), "s", WORST_GOAL_S),
        ("live-crash-worst", max(known), "s", WORST_GOAL_S),
        ("live-suspicion-median", statistics.median(suspected), "s", None),
        ("live-slander", sum(trial.slandered for trial in trials), "views", 0),
        ("live-idle-cpu", cost.cpu_percent, "% of a core", 1.0),
        ("live-idle-memory", cost.resident_mb, "MB", 80.0),
        ("live-idle-bytes", cost.sent_per_s / 1000, "kB/s sent by each", 5.0),
    ]
    return [
        {"case": case, "ours": round(ours, 2), "baseline": None, "baseline_name": "", "ratio": None}
        | {"unit": unit, "better": "lower", "target": target}
        for case, ours, unit, target in figures
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch the idle mesh first")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trials, cost = asyncio.run(run_trials(arguments.nodes, arguments.trials, arguments.idle))
    figures = rows(trials, cost)
    if arguments.json:
        print(json.dumps({"name": "crash_trials", "machine": platform.node(), "rows": figures}))
        return
    for row in figures:
        goal = f"  goal ≤ {row['target']}" if row["target"] is not None else ""
        print(f"{row['case']:<24}{row['ours']:>8}  {row['unit']}{goal}")
    print(f"known to all: {histogram([trial.known_to_all for trial in trials])}")


if __name__ == "__main__":
    main()
