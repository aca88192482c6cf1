"""Finding the agent that a command is for: the data directory, and the control socket in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from meshd.cli.output import fail
from meshd.cli.settings import read_settings
from meshd.config import BadConfig, default_data_dir
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.datadir import DataDir


def _named(context: typer.Context, option: str) -> str:
    """The option, else what the settings name: flags before the command, environment, meshd.toml; empty for none."""
    if option or context.resilient_parsing:
        return option
    try:
        return read_settings(context.obj or {}, os.environ).config.data_dir
    except BadConfig as error:
        fail(str(error), code=2)


DataDirOption = Annotated[
    str, typer.Option("--data-dir", callback=_named, help="the agent's data directory", show_default=False)
]


def data_dir(option: str) -> DataDir:
    """The directory named by the option, or the default one."""
    return DataDir(Path(option) if option else default_data_dir(os.environ, Path.home()))


def call(directory: DataDir, command: str, **arguments: Any) -> dict[str, Any]:
    """Send a control command to the running agent, or exit 1 with the reason."""
    try:
        return ControlClient(directory.control_socket).call(command, **arguments)
    except (NotRunning, CommandFailed) as failure:
        fail(str(failure))
