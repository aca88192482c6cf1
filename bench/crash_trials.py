"""How soon the others know that one of five real agents was killed: `python -m bench.crash_trials [--json]`.

Each trial kills one of five with SIGKILL, reads in the logs of the other four when they counted it as suspect and
as dead, and starts it again. Every agent has its turn, the founder too. Afterwards all are killed at once, and
start again with and without the founder; and one after the other is stopped (SIGSTOP) for ten seconds. What five
idle agents cost stands beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.footprint import Footprint, footprint
from meshd.local_agents import local_agents
from meshd.local_mesh import LocalMesh

PATIENCE_S = 60.0
SETTLED_S = 3.0
"""Between the last agent's return and the next crash: what is left of the return has been said by then."""

MEDIAN_GOAL_S, WORST_GOAL_S, REFORM_GOAL_S = 5.0, 9.0, 10.0
BUCKET_S = 0.5
STANDSTILL_S = 10.0


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


@dataclass(frozen=True, slots=True)
class Standstill:
    """back: seconds from SIGCONT until all see all.  slandered: as in `Trial`."""

    back: float
    slandered: int


@dataclass(frozen=True, slots=True)
class Measured:
    """reformed: seconds from the first start until all see all, after all were killed.  orphaned: the same without
    the founder.
    """

    trials: list[Trial]
    idle: Footprint
    standstills: list[Standstill]
    reformed: list[float]
    orphaned: list[float]


async def measure(nodes: int, trials: int, standstills: int, restarts: int, idle_s: float) -> Measured:
    """All of it in one mesh."""
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
            stood = [await _stand_still(mesh, names[number % nodes]) for number in range(standstills)]
            reformed = [await _form_again(mesh, names) for _ in range(restarts)]
            orphaned = [await _form_again(mesh, names[1:]) for _ in range(restarts)]
            return Measured(done, cost, stood, reformed, orphaned)


async def _form_again(mesh: LocalMesh, names: Sequence[str]) -> float:
    await mesh.kill(*mesh.running)
    began = time.monotonic()
    await mesh.start_again(*names)
    await mesh.until_met()
    return time.monotonic() - began


async def _trial(mesh: LocalMesh, victim: str, pause_s: float) -> Trial:
    """pause_s: varies, so that no trial falls on the same beat of the others' clocks."""
    await asyncio.sleep(pause_s)
    killed = await mesh.kill(victim)
    suspected = await mesh.until_told(victim, "suspect", killed, PATIENCE_S)
    known = await mesh.until_told(victim, "dead", killed, PATIENCE_S)
    await mesh.start_again(victim)
    await mesh.until_met()
    return Trial(victim, min(suspected.values()), tuple(sorted(known.values())), _slandered(mesh, killed, victim))


def _slandered(mesh: LocalMesh, since: float, victim: str) -> int:
    changes = mesh.changes(since)
    return sum(one.state != "alive" for one in changes if one.subject != victim)


async def _stand_still(mesh: LocalMesh, name: str) -> Standstill:
    pid = mesh.agents[name].child.pid
    began = time.time()
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STANDSTILL_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    woke = time.monotonic()
    await mesh.until_met()
    back = time.monotonic() - woke
    await asyncio.sleep(SETTLED_S)
    return Standstill(back, _slandered(mesh, began, name))


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


def rows(measured: Measured) -> list[dict[str, object]]:
    """In the shape of `meshd bench`; there is nothing bare to compare a crash with."""
    trials, cost = measured.trials, measured.idle
    known = [trial.known_to_all for trial in trials]
    suspected = [trial.suspected for trial in trials]
    slandered = sum(trial.slandered for trial in trials) + sum(one.slandered for one in measured.standstills)
    figures = [
        ("live-crash-median", statistics.median(known), "s", MEDIAN_GOAL_S),
        ("live-crash-p90", percentile(known, 0.9), "s", WORST_GOAL_S),
        ("live-crash-worst", max(known), "s", WORST_GOAL_S),
        ("live-suspicion-median", statistics.median(suspected), "s", None),
        ("live-reform-worst", max(measured.reformed), "s", REFORM_GOAL_S),
        ("live-reform-without-founder-worst", max(measured.orphaned), "s", REFORM_GOAL_S),
        ("live-standstill-back-worst", max(one.back for one in measured.standstills), "s", None),
        ("live-slander", slandered, "views", 0),
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
    parser.add_argument("--standstills", type=int, default=10)
    parser.add_argument("--restarts", type=int, default=5, help="of all at once, with and without the founder each")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch the idle mesh first")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = (arguments.nodes, arguments.trials, arguments.standstills, arguments.restarts)
    measured = asyncio.run(measure(*counts, arguments.idle))
    figures = rows(measured)
    if arguments.json:
        print(json.dumps({"name": "crash_trials", "machine": platform.node(), "rows": figures}))
        return
    for row in figures:
        goal = f"  goal ≤ {row['target']}" if row["target"] is not None else ""
        print(f"{row['case']:<36}{row['ours']:>8}  {row['unit']}{goal}")
    print(f"known to all: {histogram([trial.known_to_all for trial in measured.trials])}")


if __name__ == "__main__":
    main()
