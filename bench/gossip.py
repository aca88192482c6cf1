"""Gossip in the simulator beside memberlist's constants in the same engine: python -m bench.gossip [--json].

Cases `detect-N`, `fact-N`, `merge-N` and `bytes-N`: the worst crash, the 99th percentile of facts, the worst healed
partition, and bytes a second and node. memberlist's LAN constants (its config.go: SuspicionMult 4, two confirmations,
RetransmitMult 4, PushPullInterval 30 s) take the place of ours; everything else, the dice included, is the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from gossip.simulator.measure import Plan, Row, measure, percentile
from gossip.timing import LAN, Timing

TARGETS = {
    10: {"detect": 11.0, "fact": 1.0, "merge": 15.0, "bytes": 5000.0},
    50: {"detect": 11.0, "fact": 1.5, "merge": 15.0, "bytes": 10_000.0},
    200: {"detect": 14.0, "fact": 2.5, "merge": 15.0, "bytes": 30_000.0},
}
UNITS = {"detect": "s", "fact": "s", "merge": "s", "bytes": "B/s"}
MEMBERLIST = Timing(sync_s=30.0)


@contextmanager
def memberlist_constants() -> Iterator[None]:
    """Have the engine suspect and repeat itself as memberlist does on a LAN."""
    with (
        patch("gossip.suspicion.MINIMUM_PROBES", 4),
        patch("gossip.suspicion.MAX_ACCUSERS", 2),
        patch("gossip.broadcast.RETRANSMIT_FACTOR", 4),
    ):
        yield


def figures(row: Row) -> dict[str, float]:
    return {
        "detect": row.detection_s[-1],
        "fact": percentile(row.fact_s, 0.99),
        "merge": row.merging_s[-1],
        "bytes": row.bytes_per_s,
    }


def compare(nodes: int, loss: float, trials: int, seed: int) -> list[dict[str, object]]:
    """One row for each figure of a mesh of that size."""

    def run(timing: Timing) -> dict[str, float]:
        partitions = max(1, trials // 10)
        plan = Plan(nodes, loss, trials, partitions, node_hours=nodes / 60, seed=seed, timing=timing)
        return figures(measure(plan, lambda text: None))

    ours = run(LAN)
    with memberlist_constants():
        theirs = run(MEMBERLIST)
    return [
        {
            "case": f"{name}-{nodes}",
            "ours": round(ours[name], 3),
            "baseline": round(theirs[name], 3),
            "baseline_name": "memberlist's constants",
            "ratio": round(ours[name] / theirs[name], 3),
            "unit": unit,
            "better": "lower",
            "target": TARGETS.get(nodes, {}).get(name),
            "loss": loss,
            "trials": trials,
        }
        for name, unit in UNITS.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--loss", type=float, default=0.2, help="share of datagrams")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = [row for nodes in options.nodes for row in compare(nodes, options.loss, options.trials, options.seed)]
    if options.json:
        print(json.dumps({"name": "gossip", "machine": platform.node(), "rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
