"""What `meshd doctor` does and shows. Apart from `doctor`, because it loads far more than a command line needs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from llm.engines.llama_binary import EngineMissing, find_llama_server
from meshd.cli.output import fail, print_json
from meshd.cli.running import data_dir
from meshd.cli.settings import read_settings
from meshd.config import BadConfig, Config
from meshd.datadir import DataDir
from meshd.doctor import all_ok, as_object, render
from meshd.doctor_list import ALL_PROBES
from meshd.doctor_probes import EngineFiles, options_for, run_checks
from meshd.engines import chosen_binary


def show_doctor(flags: Mapping[str, Any], *, as_json: bool) -> bool:
    """Check this host as an agent with `flags` would use it, and print the checks; whether all are well."""
    try:
        config = read_settings(flags, os.environ).config
        directory = data_dir(config.data_dir)
        options = options_for(config, directory.root, _engine(config, directory))
    except (BadConfig, ValueError) as error:
        fail(str(error), code=2)
    checks = asyncio.run(run_checks(options, ALL_PROBES))
    if as_json:
        print_json(as_object(checks))
    else:
        render(checks)
    return all_ok(checks)


def _engine(config: Config, directory: DataDir) -> EngineFiles | None:
    try:
        found = find_llama_server(chosen_binary(config, directory))
    except EngineMissing:
        return None
    return EngineFiles(found.path, found.library_dir)
