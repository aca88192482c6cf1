"""`meshd forms --costs`: what calls cost on each node, how well that is known, and where the last ones went."""

from __future__ import annotations

from typing import Any

from llm.figure import figure
from meshd.cli.output import page, print_json

CALLS_SHOWN = 12


def show_costs(answer: dict[str, Any], as_json: bool) -> None:
    """Show what the agent says, or print it as it is."""
    if as_json:
        print_json(answer)
        return
    console = page()
    if not answer["costs"]:
        console.print("nothing is known yet: call a form, and the nodes find out what they cost")
        return
    console.print(_costs(answer["costs"]))
    if answer["calls"]:
        console.print(_calls(answer["calls"][-CALLS_SHOWN:]))


def _costs(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("form", "in", "node", "by", title="seconds = base + work · each", title_justify="left")
    for head in ("base ms", "each ns", "cold s", "error", "calls"):
        table.add_column(head, justify="right")
    for row in rows:
        error = f"{row['error']:.0%}" if row["error"] is not None else "–"
        figures = (f"{row['base_s'] * 1e3:,.2f}", figure(row["per_work_s"] * 1e9), f"{row['cold_s']:.2f}", error)
        table.add_row(row["form"], row["wire"], row["node"], row["backend"], *figures, f"{row['calls']:,}")
    return table


def _calls(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("form", title="the last calls that could have run anywhere", title_justify="left")
    for head in ("work", "ran at", "predicted ms", "took ms", "elsewhere ms"):
        table.add_column(head, justify="left" if head == "ran at" else "right")
    for row in rows:
        others = "  ".join(f"{name} {_milliseconds(seconds)}" for name, seconds in row["others"].items())
        took = _milliseconds(row["actual_s"]) if row["actual_s"] is not None else "failed"
        table.add_row(
            row["form"], f"{row['work']:,.0f}", row["place"], _milliseconds(row["predicted_s"]), took, others or "–"
        )
    return table


def _milliseconds(seconds: float | None) -> str:
    return f"{seconds * 1e3:,.1f}" if seconds is not None else "?"
