"""One line of a bench: ours beside the alternative, in one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """baseline: what `baseline_name` got in the same run.  better: "higher" or "lower".  target: for the ratio."""

    case: str
    ours: float
    baseline: float
    baseline_name: str
    ratio: float
    unit: str
    better: str
    target: float
