"""`meshd config --show`: the configuration that `meshd` would run with, and where each value came from."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Any

import typer

from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.settings import read_settings
from meshd.config import BadConfig


def config(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--show", help="print every setting and its source")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Print the settings: flags > MESHD_* environment > meshd.toml > defaults."""
    try:
        resolved = read_settings(context.obj or {}, os.environ)
    except BadConfig as error:
        fail(str(error))
    values: dict[str, Any] = asdict(resolved.config)
    if as_json:
        print_json({name: {"value": value, "source": resolved.sources[name]} for name, value in values.items()})
    elif show:
        for name, value in values.items():
            print(f"{name:<14} {value!r:<24} # {resolved.sources[name]}")
