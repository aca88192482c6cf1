"""A process that starts children as the agent does, prints their pids and waits to be killed.

Run as `python -m tests.meshd.agent_like FOLDER GRACE_S LOOP PROGRAM…`, each PROGRAM a piece of Python.
Prints one line `CHILD LAUNCHER` of pids each once all of them have begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import uvloop

from meshd.launcher import ProcessLauncher
from tests.meshd.processes import has_begun


async def hold(folder: Path, grace_s: float, programs: list[str]) -> None:
    launcher = ProcessLauncher(os.environ, grace_s)
    async with contextlib.AsyncExitStack() as stack:
        for number, program in enumerate(programs):
            argv = (sys.executable, "-u", "-c", program)
            child = await stack.enter_async_context(launcher.start(argv, {}, folder / f"{number}.log"))
            await has_begun(folder / f"{number}.log")
            print(child.pid, child.process.pid, flush=True)
        print("all", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[3] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(hold(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[4:]))
