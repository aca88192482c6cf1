"""Proof of compute on this host: `python -m bench.poc [--preset tiny] [--seconds 5] [--json]`.

The network's rate beside that of one bare product of matrices of its widest shape, in turns, and what checking a claim
costs of making it beside what the counts of nonces say (samples × share / found, poc.md §4.2). One thread each; rates
go by the seconds in which it had a core, for other programs take their part of the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from statistics import median

from bench.row import Row
from forms.poc.groups import CPU
from forms.poc.profile import PRESETS, Profile
from forms.poc.threads import pin_threads

TURNS = 3
PRODUCT_S = 1.0
BATCH = 32


def rows(profile: Profile, seconds: float) -> list[Row]:
    """A search and a product in turns; the medians of what each turn gives."""
    # NumPy is loaded here, after its threads were pinned.
    from forms.poc.group_search import HostSearch
    from forms.poc.rate import MEASURED_SHARE, measure
    from forms.poc.verification import SAMPLES

    turns = []
    for _ in range(TURNS):
        found, _ = measure(HostSearch([(CPU,)]), profile, os.urandom(32), seconds, lambda spent_s: None)
        turns.append((found, _product_gflop_per_s(profile), SAMPLES * MEASURED_SHARE / found.nonces))
    rate = median(found.gflop_per_s / found.cores for found, _, _ in turns)
    bare = median(bare for _, bare, _ in turns)
    cost, expected = median(found.verify_over_generate for found, _, _ in turns), median(each for *_, each in turns)
    speed = median(found.gflop_per_s / found.cores / bare for found, bare, _ in turns)
    ratio = median(found.verify_over_generate / each for found, _, each in turns)
    return [
        Row("rate", rate, bare, "bare product", speed, "GFLOP/s", "higher", 0.3),
        Row("verify-over-generate", cost, expected, "by the counts", ratio, "share", "lower", 2.0),
    ]


def _product_gflop_per_s(profile: Profile) -> float:
    import numpy

    values = numpy.ones((BATCH * profile.sequence, profile.width), numpy.float32)
    matrix = numpy.ones((profile.inner, profile.width), numpy.float32)
    count, started = 0, time.process_time()
    while time.process_time() - started < PRODUCT_S:
        values @ matrix.T
        count += 1
    return 2 * count * values.size * profile.inner / (time.process_time() - started) / 1e9


def main() -> None:
    """Print the rows, or one object."""
    pin_threads(os.environ, 1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="tiny")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = rows(PRESETS[given.preset], given.seconds)
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    if given.json:
        print(json.dumps({"name": "poc", "machine": machine, "rows": [asdict(row) for row in found]}, indent=2))
    else:
        for row in found:
            print(f"{row.case:<21} {row.ours:8.3g} {row.unit}, {row.baseline_name} {row.baseline:.3g}: {row.ratio:.2f}")


if __name__ == "__main__":
    main()
