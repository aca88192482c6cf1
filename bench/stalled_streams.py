"""What streams that nobody reads take from their siblings: python -m bench.stalled_streams [--json].

Eight streams over one QUIC connection on loopback, read as fast as they come, alone and beside stalled ones; both
ends live in this process. The scenario is that of tests/transport/test_sharing.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
from collections.abc import AsyncIterator
from dataclasses import asdict

import uvloop

from bench.row import Row
from tests.transport.quic_mesh import two_members
from tests.transport.sharing import FAIR, Case, shares
from transport.interface import Transport

SIBLINGS = 8
STALLED = (1, 8, 64, 200)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Transport, Transport]]:
    async with two_members() as members:
        yield members


async def compare(rounds: int) -> list[Row]:
    """Medians over `rounds`, alone and beside taking turns."""
    rows: list[Row] = []
    for stalled in STALLED:
        case = Case(SIBLINGS, stalled, seconds=1.5)
        alone: list[float] = []
        beside: list[float] = []
        for _ in range(rounds):
            alone.append(sum(await shares(connected, case.without_stalled)) / SIBLINGS / 1e6)
            beside.append(min(await shares(connected, case)) / 1e6)
        fair, slowest = statistics.median(alone), statistics.median(beside)
        rows.append(Row(f"stalled-{stalled}", slowest, fair, "no stalled", slowest / fair, "MB/s", "higher", FAIR))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = (uvloop.run if options.loop == "uvloop" else asyncio.run)(compare(options.rounds))
    if options.json:
        print(json.dumps({"name": "stalled", "machine": platform.node(), "rows": [asdict(row) for row in rows]}))
        return
    for row in rows:
        print(
            f"{row.case:12} slowest sibling {row.ours:6.2f}  fair share alone {row.baseline:6.2f} {row.unit}"
            f"  ratio {row.ratio:.2f}  (target ≥ {row.target})"
        )


if __name__ == "__main__":
    main()
