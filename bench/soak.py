"""Five real agents behind lossy relays, left alone: `python -m bench.soak [--loss 20] [--minutes 10] [--json]`.

Whoever is called dead is called so falsely, since nobody dies. Suspicions are counted as well: those that an
agent came to by itself, and the views that heard of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.footprint import Footprint, footprint
from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import local_agents
from meshd.local_mesh import Change, LocalMesh
from transport.impairment import Conditions


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it. told: changes for the worse in any view, none of them deserved.  carried, lost: packets."""

    minutes: float
    told: tuple[Change, ...]
    cost: Footprint
    carried: int
    lost: int

    def views(self, state: str) -> int:
        """How many times some agent put another into `state`."""
        return sum(change.state == state for change in self.told)

    @property
    def incidents(self) -> int:
        """How many suspicions there were, however many heard of each."""
        last: dict[str, float] = {}
        count = 0
        for change in self.told:
            if change.state == "suspect":
                count += change.at - last.get(change.subject, 0.0) > 2.0
                last[change.subject] = change.at
        return count


async def soak(nodes: int, loss: float, minutes: float, delay_s: float = 0.0) -> Soaked:
    """Have `nodes` agents meet over ways that lose `loss` of the packets each way, and watch them."""
    with tempfile.TemporaryDirectory(prefix="meshd-soak-") as folder:
        ways = ImpairedAgents(local_agents(Path(folder)), Conditions(loss=loss, delay_s=delay_s))
        async with LocalMesh(ways) as mesh:
            await mesh.found([f"n{number}" for number in range(nodes)])
            began = time.time()
            carried, lost = ways.passed(), ways.dropped().total()
            cost = await footprint(mesh, 60 * minutes)
            told = tuple(change for change in mesh.changes(began) if change.state != "alive")
            return Soaked(minutes, told, cost, ways.passed() - carried, ways.dropped().total() - lost)


def as_object(done: Soaked, nodes: int, loss: float) -> dict[str, object]:
    return {
        "nodes": nodes,
        "loss": loss,
        "minutes": done.minutes,
        "suspicions": done.incidents,
        "suspicions_in_views": done.views("suspect"),
        "deaths_in_views": done.views("dead"),
        "sent_kb_per_s": round(done.cost.sent_per_s / 1000, 2),
        "cpu_percent": round(done.cost.cpu_percent, 2),
        "resident_mb": round(done.cost.resident_mb, 1),
        "packets_carried": done.carried,
        "packets_lost": done.lost,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", type=float, default=20.0, help="percent of packets lost, each way")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    done = asyncio.run(soak(arguments.nodes, arguments.loss / 100, arguments.minutes))
    figures = as_object(done, arguments.nodes, arguments.loss)
    if arguments.json:
        print(json.dumps({"name": "soak", "machine": platform.node(), **figures, "goal_deaths": 0}))
        return
    for name, figure in figures.items():
        print(f"{name:<20}{figure:>10}")
    for change in done.told:
        print(f"{change.at:.2f} {change.observer}: {change.subject} {change.state}, says {change.accuser}")


if __name__ == "__main__":
    main()
