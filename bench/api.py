"""What the mesh adds to a chat: straight to the engine, through the local agent, through one QUIC hop, in one run.

`python -m bench.api [--json] [--engine echo|toy] [--rounds N] [--spread S]`. The three targets take turns within each
round, so that a noisy machine disturbs them alike; medians over the rounds are compared.

With `--engine echo` the engine is the shipped fake at a real engine's pace, which leaves the overhead alone;
with `--engine toy` it is llama-server on the shipped toy model, straight to a server of the same flags.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
from dataclasses import dataclass
from typing import Any, Literal

from bench.api_targets import targets
from bench.chat_load import LoadResult, Target, load

STREAMS = (1, 8, 64)
PROMPT = "What is meshd?"
GOALS = {"local": (2.0, 0.97), "hop": (5.0, 0.95)}

Engine = Literal["echo", "toy"]


@dataclass(frozen=True, slots=True)
class Plan:
    """rate: tokens/s of each stream of the echo engine.  spread_s: over which the streams of a round start."""

    engine: Engine
    rounds: int
    tokens: int
    rate: float
    spread_s: float


async def measure(plan: Plan) -> list[dict[str, Any]]:
    """Rows of `meshd bench`'s shape, two a path and number of streams."""
    rows: list[dict[str, Any]] = []
    async with targets(plan.engine, plan.rate) as (direct, local, hop):
        for target in (direct, local, hop):
            await load(target, 2, 4, PROMPT, 0.0)
        for streams in STREAMS:
            results = await _take_turns((direct, local, hop), streams, plan)
            rows += _rows("local", streams, results[direct.name], results[local.name])
            rows += _rows("hop", streams, results[direct.name], results[hop.name])
    return rows


async def _take_turns(three: tuple[Target, ...], streams: int, plan: Plan) -> dict[str, list[LoadResult]]:
    results: dict[str, list[LoadResult]] = {target.name: [] for target in three}
    for number in range(plan.rounds):
        for target in three:
            results[target.name].append(await load(target, streams, plan.tokens, PROMPT, plan.spread_s))
        print(f"{streams} streams, round {number + 1} of {plan.rounds}", file=sys.stderr)
    return results


def _rows(path: str, streams: int, direct: list[LoadResult], ours: list[LoadResult]) -> list[dict[str, Any]]:
    ttft_goal, throughput_goal = GOALS[path]
    baseline_ttft, our_ttft = (statistics.median(one.ttft_ms for one in side) for side in (direct, ours))
    baseline_rate, our_rate = (statistics.median(one.tokens_per_s for one in side) for side in (direct, ours))
    return [
        _row(f"ttft-{path}-{streams}", our_ttft, baseline_ttft, "ms", "lower", baseline_ttft + ttft_goal),
        _row(f"throughput-{path}-{streams}", our_rate, baseline_rate, "tokens/s", "higher", throughput_goal),
    ]


def _row(case: str, ours: float, baseline: float, unit: str, better: str, target: float) -> dict[str, Any]:
    return {
        "case": case,
        "ours": round(ours, 2),
        "baseline": round(baseline, 2),
        "baseline_name": "straight to the engine",
        "ratio": round(ours / baseline, 3),
        "unit": unit,
        "better": better,
        "target": round(target, 2),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'case':<22}{'ours':>10}{'engine':>10}{'ratio':>8}  unit")
    for row in rows:
        print(f"{row['case']:<22}{row['ours']:>10}{row['baseline']:>10}{row['ratio']:>8}  {row['unit']}")


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("echo", "toy"), default="echo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=60, help="tokens a stream")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens/s a stream of the echo engine")
    parser.add_argument("--spread", type=float, default=1.0, help="seconds over which streams start; 0: all at once")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plan = Plan(arguments.engine, arguments.rounds, arguments.tokens, arguments.rate, arguments.spread)
    rows = asyncio.run(measure(plan))
    if arguments.json:
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        print(
            json.dumps(
                {"name": "api", "engine": plan.engine, "spread_s": plan.spread_s, "machine": machine, "rows": rows},
                indent=2,
            )
        )
    else:
        _print_table(rows)


if __name__ == "__main__":
    main()
