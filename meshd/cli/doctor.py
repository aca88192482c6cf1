"""`meshd doctor`: what is wrong with this host, and what to do about each thing."""

from __future__ import annotations

import typer

from meshd.cli.output import JsonFlag


def doctor(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Check this host for what keeps a node from working; exit 1 when something does."""
    from meshd.cli.doctor_show import show_doctor

    raise typer.Exit(0 if show_doctor(context.obj or {}, as_json=as_json) else 1)
