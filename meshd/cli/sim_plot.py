"""Draws the figures of `meshd sim`. The one place that needs matplotlib, which is the extra `plots`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gossip.simulator.measure import Row, median, percentile
from meshd.cli.output import fail

NEED_MATPLOTLIB = "--png needs matplotlib: install meshd with the extra plots (uv tool install 'meshd-gpu[plots]')"
GOALS_DETECTION_S = ((10, 11.0), (50, 11.0), (200, 14.0))
GOALS_FACT_S = ((10, 1.0), (50, 1.5), (200, 2.5))


def drawing(path: str) -> Callable[[Sequence[Row]], None]:
    """What draws rows into the file `path`. Exits at once where matplotlib is missing, not after an hour of figures."""
    try:
        import matplotlib
    except ImportError:
        fail(NEED_MATPLOTLIB)
    if not Path(path).absolute().parent.is_dir():
        fail(f"cannot write {path}: there is no such directory")
    matplotlib.use("agg")
    return lambda rows: draw(rows, Path(path))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Two panels: crash detection and fact convergence against the size of the mesh, a line for each loss.

    Raises OSError when the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _panel(left, rows, _detection, GOALS_DETECTION_S)
    left.set_title("A crash is known to all (line: median, bar: up to the worst)")
    left.set_ylabel("seconds after the crash")
    _panel(right, rows, _fact, GOALS_FACT_S)
    right.set_title("A fact is known to all (line: p50, bar: up to p99)")
    right.set_ylabel("seconds after it was said")
    plan = rows[0].plan
    hints = "with hints" if plan.with_hints else "hints off"
    trials = sorted({row.plan.trials for row in rows})
    counts = str(trials[0]) if len(trials) == 1 else f"{trials[0]} to {trials[-1]}"
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(f"{counts} trials a point, {plan.rtt_s * 1000:g} ms round trip, {hints}, seed {plan.seed}")
    figure.savefig(path, dpi=110)


def _detection(row: Row) -> tuple[float, float]:
    return median(row.detection_s), row.detection_s[-1]


def _fact(row: Row) -> tuple[float, float]:
    return percentile(row.fact_s, 0.5), percentile(row.fact_s, 0.99)


def _panel(
    axes: Any,
    rows: Sequence[Row],
    figure_of: Callable[[Row], tuple[float, float]],
    goals: tuple[tuple[int, float], ...],
) -> None:
    from matplotlib import colormaps

    losses = sorted({row.plan.loss for row in rows})
    sizes = sorted({row.plan.nodes for row in rows})
    for index, loss in enumerate(losses):
        mine = sorted((row for row in rows if row.plan.loss == loss), key=lambda row: row.plan.nodes)
        # Side by side rather than on top of each other.
        at = [row.plan.nodes * 1.06 ** (index - (len(losses) - 1) / 2) for row in mine]
        middles = [figure_of(row)[0] for row in mine]
        above = [figure_of(row)[1] - figure_of(row)[0] for row in mine]
        color = colormaps["plasma"](0.8 * index / max(1, len(losses) - 1))
        axes.errorbar(
            at, middles, [[0.0] * len(mine), above], marker="o", capsize=4, color=color, label=f"{loss:.0%} loss"
        )
    shown = [(size, goal) for size, goal in goals if size in sizes]
    for index, (size, goal) in enumerate(shown):
        label = "goal" if index == 0 else None
        axes.hlines(goal, size / 1.25, size * 1.25, colors="crimson", linestyles="dashed", label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("nodes in the mesh")
    axes.grid(axis="y", alpha=0.3)
