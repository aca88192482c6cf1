"""`meshd` itself: run this host's agent until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import uvloop

from meshd.agent import Agent, CannotStart
from meshd.cli.output import fail, say
from meshd.cli.settings import read_settings
from meshd.config import BadConfig, Config, default_data_dir
from meshd.datadir import DataDir
from meshd.logs import configure


def run(flags: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Run the agent: exit 0 after SIGINT or SIGTERM, 1 when it cannot start, 2 for a bad setting."""
    try:
        config = read_settings(flags, environment).config
    except BadConfig as error:
        fail(str(error), code=2)
    configure(config.log_format, config.log_level.upper())
    directory = DataDir(Path(config.data_dir) if config.data_dir else default_data_dir(environment, Path.home()))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(config, directory))
    except CannotStart as error:
        fail(str(error))


async def _until_signalled(config: Config, directory: DataDir) -> None:
    stop = asyncio.Event()
    with _signals(stop):
        await Agent(config, directory, say).run(stop)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
