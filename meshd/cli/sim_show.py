"""What `meshd sim` does and shows. Apart from `sim`, because it loads far more than a command line needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gossip.simulator.faults import draw_schedule
from gossip.simulator.measure import Plan, Row, measure, median, percentile
from gossip.simulator.schedules import Failed, Outcome, command, run_schedule
from meshd.cli.output import fail, page, print_json, say

COLUMNS = (
    "nodes",
    "loss",
    "crash known\nto all, s\nmedian / max",
    "fact known\nto all, s\np50 / p99",
    "false\ndeaths per\nnode-hour",
    "healed to\nmerged, s\nmedian / max",
    "kB/s per\nnode",
    "packets/s\nper node",
)


def plans(
    nodes: Sequence[int],
    losses: Sequence[float],
    *,
    trials: int,
    seed: int,
    rtt_ms: float,
    node_hours: float,
    with_hints: bool,
) -> list[Plan]:
    """One line of the table each."""
    return [
        Plan(
            size,
            loss,
            trials=trials,
            partitions=max(1, min(5, trials // 2)),
            node_hours=node_hours,
            rtt_s=rtt_ms / 1000,
            seed=seed,
            with_hints=with_hints,
        )
        for size in nodes
        for loss in losses
    ]


def show_figures(plans: list[Plan], png: str, as_json: bool) -> None:
    """Measure every plan and print the table, or one object; draw it where `png` says."""
    draw = None
    if png:
        from meshd.cli import sim_plot

        draw = sim_plot.drawing(png)
    rows = _measure_all(plans)
    if as_json:
        print_json({"name": "sim", "rows": [as_object(row) for row in rows]})
    else:
        page().print(table(rows))
    if draw is not None:
        try:
            draw(rows)
        except OSError as error:
            fail(f"cannot write {png}: {error}")


def _measure_all(plans: list[Plan]) -> list[Row]:
    rows = []
    with _progress() as progress:
        task = progress.add_task("", total=len(plans))
        for plan in plans:
            rows.append(measure(plan, lambda text: progress.update(task, description=text)))
            progress.advance(task)
    return rows


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def table(rows: list[Row]) -> Table:
    """The figures for people."""
    hints = "with hints" if rows[0].plan.with_hints else "hints off"
    plan = rows[0].plan
    title = (
        f"{plan.trials} trials a line, {rows[0].node_hours:g} node-hours, {plan.rtt_s * 1000:g} ms round trip, "
        f"{hints}, seed {plan.seed}"
    )
    shown = Table(*COLUMNS, title=title, title_justify="left")
    for column in shown.columns:
        column.justify = "right"
        column.overflow = "fold"  # a figure may be broken on a narrow terminal, never cut
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.plan.nodes),
        f"{row.plan.loss:.0%}",
        f"{median(row.detection_s):.1f} / {row.detection_s[-1]:.1f}",
        f"{percentile(row.fact_s, 0.5):.2f} / {percentile(row.fact_s, 0.99):.2f}",
        f"{row.false_deaths_per_hour:.3g}",
        f"{median(row.merging_s):.1f} / {row.merging_s[-1]:.1f}",
        f"{row.bytes_per_s / 1000:.1f}",
        f"{row.packets_per_s:.0f}",
    )


def as_object(row: Row) -> dict[str, Any]:
    """One row for scripts."""
    return {
        "nodes": row.plan.nodes,
        "loss": row.plan.loss,
        "rtt_ms": row.plan.rtt_s * 1000,
        "seed": row.plan.seed,
        "trials": row.plan.trials,
        "hints": row.plan.with_hints,
        "detection_median_s": round(median(row.detection_s), 3),
        "detection_max_s": round(row.detection_s[-1], 3),
        "fact_p50_s": round(percentile(row.fact_s, 0.5), 3),
        "fact_p99_s": round(percentile(row.fact_s, 0.99), 3),
        "false_deaths": row.false_deaths,
        "node_hours": row.node_hours,
        "merge_median_s": round(median(row.merging_s), 3),
        "merge_max_s": round(row.merging_s[-1], 3),
        "bytes_per_s": round(row.bytes_per_s, 1),
        "packets_per_s": round(row.packets_per_s, 2),
        "largest_datagram": row.largest_datagram,
    }


def show_schedules(seeds: Sequence[int], nodes: int | None, with_trace: bool, as_json: bool) -> None:
    """Run the schedule of every seed; exit 1 when one breaks a rule, with what led to it and how to see it again."""
    logging.getLogger("meshd").setLevel(logging.ERROR)
    outcomes: list[Outcome] = []
    failures: list[Failed] = []
    with _progress() as progress:
        task = progress.add_task("", total=len(seeds))
        for seed in seeds:
            progress.update(task, description=f"seed {seed}, {len(failures)} failed", advance=1)
            try:
                outcomes.append(run_schedule(draw_schedule(seed, nodes)))
            except Failed as failed:
                failures.append(failed)
    if as_json:
        print_json(
            {"name": "schedules", "rows": [_outcome_object(one) for one in outcomes], "failed": _failed(failures)}
        )
    else:
        _show_outcomes(outcomes, with_trace)
    for failure in failures:
        say(f"\n{failure}")
    if failures:
        fail(f"{len(failures)} of {len(seeds)} schedules broke a rule")


def _show_outcomes(outcomes: list[Outcome], with_trace: bool) -> None:
    for outcome in outcomes if with_trace else ():
        faults = "\n".join(f"  {fault}" for fault in outcome.schedule.faults)
        events = "\n".join(f"  {line}" for line in outcome.trace)
        print(
            f"seed {outcome.schedule.seed}, {outcome.schedule.nodes} nodes\nfaults:\n{faults}\nlast events:\n{events}"
        )
    if outcomes:
        virtual_s = sum(outcome.virtual_s for outcome in outcomes)
        slowest = max(outcomes, key=lambda outcome: outcome.calm_s)
        print(
            f"{len(outcomes)} schedules kept every rule in {virtual_s:.0f} virtual seconds; the views agreed at most "
            f"{slowest.calm_s:.1f} s after the last fault (seed {slowest.schedule.seed})"
        )


def _outcome_object(outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": outcome.schedule.seed,
        "nodes": outcome.schedule.nodes,
        "digest": outcome.digest,
        "calm_s": outcome.calm_s,
        "virtual_s": round(outcome.virtual_s, 3),
    }


def _failed(failures: list[Failed]) -> list[dict[str, Any]]:
    return [
        {
            "seed": one.schedule.seed,
            "rule": one.violation.name,
            "what": str(one.violation),
            "again": command(one.schedule),
        }
        for one in failures
    ]
