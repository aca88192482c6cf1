"""`meshd doctor`: what is wrong with this host, and what to do about each thing."""

from __future__ import annotations

import asyncio
import os

import typer

from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.running import data_dir
from meshd.cli.settings import read_settings
from meshd.config import BadConfig, Config
from meshd.datadir import DataDir
from meshd.doctor import all_ok, as_object, render
from meshd.doctor_probes import EngineFiles, options_for, run_checks


def doctor(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Check this host for what keeps a node from working; exit 1 when something does."""
    try:
        config = read_settings(context.obj or {}, os.environ).config
        directory = data_dir(config.data_dir)
        options = options_for(config, directory.root, _engine(config, directory))
    except (BadConfig, ValueError) as error:
        fail(str(error))
    checks = asyncio.run(run_checks(options))
    if as_json:
        print_json(as_object(checks))
    else:
        render(checks)
    raise typer.Exit(0 if all_ok(checks) else 1)


def _engine(config: Config, directory: DataDir) -> EngineFiles | None:
    from llm.engines.llama_binary import EngineMissing, find_llama_server
    from meshd.engines import chosen_binary  # engines load more than a command line needs

    try:
        found = find_llama_server(chosen_binary(config, directory))
    except EngineMissing:
        return None
    return EngineFiles(found.path, found.library_dir)
