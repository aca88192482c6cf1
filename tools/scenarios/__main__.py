"""`python -m tools.scenarios NAME`: run one scenario; exit 0 when what it shows held. Without a name: list them."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
import tempfile
import time
from pathlib import Path

import tools.scenarios
from meshd.local_agents import AgentFailed, local_agents
from tools.scenarios.stage import DidNotHold, Stage

HARNESS = {"__main__", "listener", "stage"}


def names() -> list[str]:
    """Every scenario, as one types it."""
    found = {module.name for module in pkgutil.iter_modules(tools.scenarios.__path__)} - HARNESS
    return sorted(name.replace("_", "-") for name in found)


async def perform(name: str, stage: Stage) -> None:
    """Run the scenario of that name. Raises DidNotHold, AgentFailed."""
    module = importlib.import_module(f"tools.scenarios.{name.replace('-', '_')}")
    summary, *_ = (module.__doc__ or "").splitlines()
    stage.say(f"{name}: {summary}")
    await module.run(stage)


def main(arguments: list[str]) -> int:
    """Run it and say how it went."""
    if len(arguments) != 1 or arguments[0] not in names():
        print(f"expected the name of a scenario: {', '.join(names())}", file=sys.stderr)
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="meshd-scenario-") as folder:
        stage = Stage(local_agents(Path(folder)), Path(folder), lambda line: print(line, flush=True))
        try:
            asyncio.run(perform(arguments[0], stage))
        except (DidNotHold, AgentFailed) as error:
            print(f"did not hold: {error}", file=sys.stderr)
            return 1
    print(f"held, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
