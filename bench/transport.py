"""The transport beside what is bare, in one run: python -m bench.transport [--json].

Five cases under their stable names: echoes and 64 streams over QUIC beside bare aioquic (`transport_streams`); 64 MB
over QUIC beside bare aioquic, 64 MB and 1 GB on the bulk lane beside bare asyncio TLS and plain TCP (`bulk`). Beside
their figures the rows say what else was seen on the way: `…_p99` and 1 KiB echoes in µs, CPU seconds of both ends a
gigabyte, and the memory of the larger end at its most. Each end of each run is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from dataclasses import asdict

import uvloop

from bench import bulk, transport_streams
from bench.row import Row

ORDER = ("echo-64B", "quic-64MB", "bulk-64MB", "bulk-1GB", "streams-64")


async def run_all(loop: str, rounds: int) -> list[dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for row, mine, theirs in await transport_streams.compare(loop, rounds, ("echo-64B", "streams-64")):
        rows[row.case] = transport_streams.as_row(row, mine, theirs)
    rows["echo-64B"] |= await beside_the_echo(loop, rounds)
    for one, ours, beside in await bulk.compare(loop, rounds):
        if one.baseline_name == "plain TCP":
            rows[one.case] |= {f"plain_tcp_{key}": value for key, value in asdict(beside).items()}
        else:
            rows[one.case] = bulk.as_row(one, ours, beside)
    return [rows[case] for case in ORDER]


async def beside_the_echo(loop: str, rounds: int) -> dict[str, object]:
    said: dict[str, object] = {}
    for what in transport_streams.BESIDE:
        mine, theirs = await transport_streams.medians(what, loop, rounds)
        said |= {f"ours_{what}": mine.figure, f"baseline_{what}": theirs.figure}
    return said


def described(row: dict[str, object]) -> str:
    words = [f"{row['case']:10} ours {row['ours']:8.1f}  {row['baseline_name']} {row['baseline']:8.1f} {row['unit']}"]
    words.append(f"ratio {row['ratio']:.2f} (target {'≥' if row['better'] == 'higher' else '≤'} {row['target']})")
    beside = {key: value for key, value in row.items() if key not in Row.__slots__}
    words += [f"{key} {value:.1f}" for key, value in beside.items()]
    return "  ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    rows = run(run_all(options.loop, options.rounds))
    if options.json:
        print(json.dumps({"name": "transport", "machine": platform.node(), "rows": rows}))
        return
    for row in rows:
        print(described(row))


if __name__ == "__main__":
    main()
