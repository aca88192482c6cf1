"""Real agents as processes on this machine, each in a folder of its own: for the demo, tests and benches.

They die with whoever started them, and touch neither the user's own data directory nor fixed ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm.engines.interface import Child
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.launcher import ProcessLauncher

START_TIMEOUT_S = 120.0
POLL_S = 0.05


class AgentFailed(Exception):
    """An agent did not do what it was started for; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class LocalAgent:
    """One running agent: its process, its control door, its log."""

    name: str
    child: Child
    control: ControlClient
    directory: Path
    log: Path

    async def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a control command without blocking the loop. Raises NotRunning, CommandFailed."""
        return await asyncio.to_thread(self.control.call, command, **arguments)

    async def status(self) -> dict[str, Any]:
        """What `meshd status --json` prints."""
        return await self.call("status")

    async def token(self, role: str, uses: int = 1) -> str:
        """A new token of this issuer."""
        return str((await self.call("token_create", role=role, ttl_s=600, uses=uses))["token"])

    async def until(self, holds: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
        """Wait for a status for which `holds`; returns it. Raises AgentFailed with the last one seen."""
        deadline = time.monotonic() + timeout_s
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(NotRunning, CommandFailed):
                status = await self.status()
                if holds(status):
                    return status
            await asyncio.sleep(POLL_S)
        raise AgentFailed(f"{self.name}: not within {timeout_s:.0f} s; last status {status}\n{last_lines(self.log)}")


@dataclass(frozen=True, slots=True)
class LocalAgents:
    """Starts agents below `folder`. Several starts of one name share a data directory, one after the other.

    prefix: a command to run them under, such as `ip netns exec NAME`, that ends by becoming what it runs.
    environment: variables that they get beside the few that every child has.
    """

    folder: Path
    launcher: ProcessLauncher
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def start(self, name: str, arguments: Sequence[str] = ()) -> AsyncIterator[LocalAgent]:
        """Run an agent and wait until it answers; leaving the context stops it. Raises AgentFailed."""
        async with self.launched(name, arguments) as agent:
            await _until_it_answers(agent)
            yield agent

    @contextlib.asynccontextmanager
    async def launched(self, name: str, arguments: Sequence[str] = ()) -> AsyncIterator[LocalAgent]:
        """Run an agent without waiting for anything: for those that are expected to fail."""
        directory, log = self.folder / name, self.folder / f"{name}.log"
        argv = [*self.prefix, sys.executable, "-m", "meshd", "--name", name, "--data-dir", str(directory)]
        argv += ["--port", "0", "--console-port", "0", "--bend-port", "0", "--bind", "127.0.0.1:0", *arguments]
        async with self.launcher.start(argv, self.environment, log) as child:
            yield LocalAgent(name, child, ControlClient(directory / "control.sock"), directory, log)


def local_agents(folder: Path) -> LocalAgents:
    """Agents that inherit little of this process's environment."""
    return LocalAgents(folder, ProcessLauncher(os.environ))


async def _until_it_answers(agent: LocalAgent) -> None:
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(agent.child.wait(), name=f"{agent.name} ended")
        answers = await _answers(agent, ended, time.monotonic() + START_TIMEOUT_S)
        why = f"ended with status {ended.result()}" if ended.done() else f"did not start within {START_TIMEOUT_S:.0f} s"
        ended.cancel()
    if not answers:
        raise AgentFailed(f"{agent.name} {why}:\n{last_lines(agent.log)}")


async def _answers(agent: LocalAgent, ended: asyncio.Task[int], deadline: float) -> bool:
    while time.monotonic() < deadline and not ended.done():
        with contextlib.suppress(NotRunning, CommandFailed):
            await agent.status()
            return True
        await asyncio.wait({ended}, timeout=POLL_S)
    return False


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return "(no log)"
