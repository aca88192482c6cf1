"""`python -m bench.chaos [--seed 1] [--requests 1000] [--rate 6] [--json]`; exit 0: nothing hung, nothing was wrong."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from bench.chaos.run import Plan, Result, run
from meshd.local_agents import local_agents


def as_object(plan: Plan, done: Result) -> dict[str, object]:
    """The figures. seconds: of the requests, by how they ended."""
    times = sorted(one.seconds for one in done.outcomes)
    slowest = max(done.outcomes, key=lambda one: one.seconds)
    return {
        "seed": plan.seed,
        "requests": plan.requests,
        "took_s": round(done.took_s, 1),
        "harms": dict(done.harms),
        "ended": dict(done.kinds().most_common()),
        "open": done.open,
        "wrong": len(done.wrong()),
        "median_s": round(statistics.median(times), 3),
        "p99_s": round(times[int(0.99 * len(times))], 2),
        "longest_s": round(times[-1], 2),
        "longest": f"{slowest.judgement.kind} {slowest.judgement.detail} {slowest.question.model} at {slowest.door}",
        "recovered_s": round(done.recovered_s, 1),
    }


def write_outcomes(path: Path, done: Result) -> None:
    """A line for each request."""
    path.write_text("".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in done.outcomes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=6.0, help="requests a second")
    parser.add_argument("--folder", type=Path, default=None, help="where to leave logs and outcomes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plan = Plan(arguments.seed, arguments.requests, arguments.rate)
    with tempfile.TemporaryDirectory(prefix="meshd-chaos-") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        done = asyncio.run(run(plan, local_agents(folder), lambda words: print(words, file=sys.stderr, flush=True)))
        if arguments.folder is not None:
            write_outcomes(folder / "outcomes.jsonl", done)
    figures = as_object(plan, done)
    if arguments.json:
        print(json.dumps({"name": "chaos", "machine": platform.node(), **figures}))
    else:
        for name, figure in figures.items():
            print(f"{name:<14}{figure}")
    return 1 if done.open or done.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())
