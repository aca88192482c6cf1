"""Draws speed against round trip: what the formula says, what forced drafts gave, what the controller made of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.draft_mesh import Distance


def draw(found: Sequence[Distance], path: Path) -> None:
    """One panel; needs matplotlib. Raises OSError when the file cannot be written."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    panel = figure.subplots()
    delays = [one.delay_ms for one in found]
    panel.plot(delays, [one.predicted for one in found], "-", color="0.55", label="predicted, forced drafts")
    panel.plot(delays, [one.speedups["forced"] for one in found], "s", color="tab:red", label="measured, forced drafts")
    panel.plot(
        delays, [one.speedups["automatic"] for one in found], "o-", color="tab:blue", label="measured, automatic"
    )
    panel.axhline(1.0, color="black", linewidth=0.8)
    panel.annotate("plain decoding", (delays[0], 1.0), ha="left", va="top", fontsize=8)
    even_ms = break_even_delay_ms(found)
    panel.axvline(even_ms, color="black", linewidth=0.8, linestyle="--")
    panel.annotate(f" break-even {even_ms:.0f} ms", (even_ms, 0.1), ha="left", va="bottom", fontsize=8)
    panel.set_xlabel("round trip added between host and drafter, ms")
    panel.set_ylabel("speed, times plain decoding")
    panel.set_ylim(bottom=0)
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def break_even_delay_ms(found: Sequence[Distance]) -> float:
    """The added round trip at which the formula gives 1: RTT* less what the program itself adds; of all distances."""
    ways_ms = [1000 * one.costs.way_s for one in found if one.costs is not None]
    return statistics.median([one.break_even_ms for one in found]) - statistics.median(ways_ms)
