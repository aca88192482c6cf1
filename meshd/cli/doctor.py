"""`meshd doctor`: what is wrong with this host, and what to do about each thing."""

from __future__ import annotations

import typer

from meshd.cli.output import JsonFlag
from meshd.cli.running import DataDirOption


def doctor(context: typer.Context, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Check this host for what keeps a node from working; exit 1 when something does."""
    from meshd.cli.doctor_show import show_doctor

    flags = (context.obj or {}) | ({"data_dir": directory} if directory else {})
    raise typer.Exit(0 if show_doctor(flags, as_json=as_json) else 1)
