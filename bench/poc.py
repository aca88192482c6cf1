"""Proof of compute on this host: `python -m bench.poc [--preset tiny] [--seconds 5] [--json]`.

The network's rate beside that of one bare product of matrices of its widest shape, and what checking a claim costs of
making it beside what the counts of nonces say (samples × share / found, poc.md §4.2).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict

import numpy

from bench.row import Row
from forms.poc.profile import PRESETS, Profile
from forms.poc.rate import BATCH, MEASURED_SHARE, assignment_of, measure
from forms.poc.verification import SAMPLES

PRODUCT_S = 1.0


def rows(profile: Profile, seconds: float) -> list[Row]:
    """One search and one product, in turn."""
    found, _ = measure(assignment_of(profile, os.urandom(32), MEASURED_SHARE), seconds, lambda spent_s: None)
    bare = _product_gflop_per_s(profile)
    expected = SAMPLES * MEASURED_SHARE / found.nonces
    ratio = found.verify_over_generate / expected
    speed = found.gflop_per_s / bare
    return [
        Row("rate", found.gflop_per_s, bare, "bare product", speed, "GFLOP/s", "higher", 0.3),
        Row(
            "verify-over-generate", found.verify_over_generate, expected, "by the counts", ratio, "share", "lower", 2.0
        ),
    ]


def _product_gflop_per_s(profile: Profile) -> float:
    values = numpy.ones((BATCH * profile.sequence, profile.width), numpy.float32)
    matrix = numpy.ones((profile.inner, profile.width), numpy.float32)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < PRODUCT_S:
        values @ matrix.T
        count += 1
    return 2 * count * values.size * profile.inner / (time.perf_counter() - started) / 1e9


def main() -> None:
    """Print the rows, or one object."""
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
