"""`meshd config --show`: the configuration that `meshd` would run with, and where each value came from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Annotated, Any

import typer

from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.settings import read_settings
from meshd.config import BadConfig


def config(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--show", help="print every setting and its source (it always does)")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Print the settings as a meshd.toml would have them: flags > MESHD_* environment > meshd.toml > defaults."""
    try:
        resolved = read_settings(context.obj or {}, os.environ)
    except BadConfig as error:
        fail(str(error), code=2)
    values: dict[str, Any] = asdict(resolved.config)
    if as_json:
        print_json({name: {"value": value, "source": resolved.sources[name]} for name, value in values.items()})
        return
    lines = {f"{name} = {_toml(value)}": resolved.sources[name] for name, value in values.items()}
    width = min(max(map(len, lines)), 40)
    for line, source in lines.items():
        print(f"{line:<{width}}  # {source}")


def _toml(value: Any) -> str:
    """A setting as TOML writes it, which for numbers, strings, truths and lists of strings is as JSON does."""
    return json.dumps(value, ensure_ascii=False)
