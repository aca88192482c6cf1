"""`meshd forms`: the catalogue: what can be called on this host, and what others have published of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from forms.installed import catalogue
from forms.survey.entries import Entry, Status, chosen, entries_of
from meshd.cli.form_costs import show_costs
from meshd.cli.output import JsonFlag, page, print_json, say
from meshd.cli.running import DataDirOption, call, data_dir

KEYS = ("name", "status", "magic", "figure", "hardware", "reference")


def forms(
    words: Annotated[str, typer.Argument(help="only entries that say this", show_default=False)] = "",
    status: Annotated[Status | None, typer.Option("--status", help="only those", show_default=False)] = None,
    wave: Annotated[int, typer.Option("--wave", min=0, max=4, help="only of that wave of the survey")] = 0,
    costs: Annotated[
        bool, typer.Option("--costs", help="what calls cost on each node, as the agent has learnt")
    ] = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List the forms: live (measured on a GPU here), built (exact, no GPU figure yet), surveyed (others' figures)."""
    if costs:
        show_costs(call(data_dir(directory), "form_costs"), as_json)
        return
    found = chosen(entries_of(catalogue()), status, wave, words)
    if as_json:
        print_json({"forms": [as_object(entry) for entry in found]})
    elif found:
        _show(found)
    else:
        say("no form is so; `meshd forms` lists them all")


def as_object(entry: Entry) -> dict[str, Any]:
    """An entry as scripts read it."""
    published = dataclasses.asdict(entry.published) if entry.published is not None else None
    return {key: getattr(entry, key) for key in KEYS} | {
        "is_ours": entry.measured is not None,
        "wave": entry.published.wave or None if entry.published is not None else None,
        "published": published,
    }


def _show(entries: Sequence[Entry]) -> None:
    from rich.table import Table

    table = Table("form", "status", "frame", "figure", "measured on", "by")
    for entry in entries:
        whose = entry.figure if entry.measured is not None or not entry.figure else f"{entry.figure} (published)"
        table.add_row(entry.name, entry.status, entry.magic, whose, entry.hardware, entry.reference)
    page(200).print(table)
