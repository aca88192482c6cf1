"""The transport beside what is bare, in one run: python -m bench.transport [--json].

Five cases under their stable names: echoes, 64 streams and 64 MB over QUIC beside bare aioquic (`transport_streams`);
64 MB and 1 GB on the bulk lane beside bare asyncio TLS (`bulk`). Beside their figures the rows say what else was seen
on the way: `…_p99` and 1 KiB echoes in µs, CPU seconds of both ends a gigabyte, the larger end's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from dataclasses import asdict

import uvloop

from bench import bulk, transport_streams

ORDER = ("echo-64B", "quic-64MB", "bulk-64MB", "bulk-1GB", "streams-64")


async def run_all(loop: str, rounds: int) -> list[dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for row in await transport_streams.compare(loop, rounds):
        rows[row.case] = asdict(row)
    rows["echo-64B"] |= await beside_the_echo(loop, rounds)
    for one, ours, theirs in await bulk.compare(loop, rounds):
        figures = bulk.as_row(one, ours, theirs)
        match one.baseline_name:
            case "bare asyncio TLS":
                rows[one.case] = figures
            case "plain TCP":
                rows[one.case]["plain_tcp"] = one.baseline
            case "our QUIC stream":
                costs = (key for key in figures if key.startswith("baseline_") and key != "baseline_name")
                rows["quic-64MB"] |= {key.replace("baseline", "ours"): figures[key] for key in costs}
    return [rows[case] for case in ORDER]


async def beside_the_echo(loop: str, rounds: int) -> dict[str, float]:
    said: dict[str, float] = {}
    for what in transport_streams.BESIDE:
        said[f"ours_{what}"], said[f"baseline_{what}"] = await transport_streams.medians(what, loop, rounds)
    return said


def described(row: dict[str, object]) -> str:
    words = [f"{row['case']:10} ours {row['ours']:8.1f}  {row['baseline_name']} {row['baseline']:8.1f} {row['unit']}"]
    words.append(f"ratio {row['ratio']:.2f} (target {'≥' if row['better'] == 'higher' else '≤'} {row['target']})")
    beside = {key: value for key, value in row.items() if key not in transport_streams.Row.__slots__}
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
