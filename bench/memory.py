"""Memory predicted beside what llama-server says it allocated: python -m bench.memory [--json] [NAME …].

The whole product of architectures and options of tests/llm/test_memory_engine.py, each a real load on this machine's
CPU, and beside ours the gate of mesh-llm, file size × 1.1. `error` is against what the engine reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from llm.memory.check import check
from tests.llm.architectures import PLANS, write_architecture
from tests.llm.engine_loads import load
from tests.llm.test_memory_engine import OPTIONS

MIB = 1 << 20
FILE_FACTOR = 1.1


@dataclass(frozen=True, slots=True)
class Row:
    """One load; sizes in MiB, errors in per cent of what was reported."""

    model: str
    option: str
    predicted_mib: float
    reported_mib: float
    error_percent: float
    file_rule_mib: float
    file_rule_error_percent: float


def measure(names: list[str]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="meshd-memory-") as folder:
        for name in names:
            model = write_architecture(Path(folder) / f"{name}.gguf", PLANS[name])
            for option, arguments in OPTIONS.items():
                log, argv = load(model, arguments, Path(folder))
                result = check(name, argv, log)
                if result is None:
                    raise SystemExit(f"{name}, {option}: the engine did not say what it allocated")
                reported, rule = result.reported.total, FILE_FACTOR * model.stat().st_size
                yield Row(
                    model=name,
                    option=option,
                    predicted_mib=round(result.predicted.predicted / MIB, 2),
                    reported_mib=round(reported / MIB, 2),
                    error_percent=round(100 * result.error, 2),
                    file_rule_mib=round(rule / MIB, 2),
                    file_rule_error_percent=round(100 * (rule / reported - 1), 1),
                )


def _summary(rows: list[Row]) -> str:
    lines = [
        "| architecture | loads | engine reports, MiB | our error, worst | file × 1.1, worst |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == name]
        sizes = [row.reported_mib for row in mine]
        ours = max((row.error_percent for row in mine), key=abs)
        rule = max((row.file_rule_error_percent for row in mine), key=abs)
        lines.append(f"| {name} | {len(mine)} | {min(sizes):.0f} to {max(sizes):.0f} | {ours:+.2f} % | {rule:+.0f} % |")
    median = statistics.median(abs(row.error_percent) for row in rows)
    rule_median = statistics.median(abs(row.file_rule_error_percent) for row in rows)
    lines.append(f"| all, median of the absolute | {len(rows)} | | {median:.2f} % | {rule_median:.0f} % |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object with every load")
    given = parser.parse_args()
    rows = list(measure(given.names or list(PLANS)))
    text = json.dumps({"rows": [asdict(row) for row in rows]}, indent=2) if given.json else _summary(rows)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
