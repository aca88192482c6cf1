"""Whole agents in this process, on one clock that the test sets: months pass when it says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshd.agent import Agent
from meshd.config import Config
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.datadir import DataDir
from meshd.node import Node
from transport.certificate import MemberCertificate, Membership

DAY_S = 86400.0
PATIENCE_S = 90.0


@dataclass
class Calendar:
    """The wall clock of every agent; it runs, and can be set forward."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s

    def pass_days(self, days: float) -> None:
        self.ahead_s += days * DAY_S


@dataclass
class RunningAgent:
    """One agent. said: what it printed for its user.  node: what it runs, for tests of parts without a door."""

    name: str
    directory: DataDir
    clock: Callable[[], float]
    node: Node = field(init=False)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    said: list[str] = field(default_factory=list)

    async def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ControlClient(self.directory.control_socket).call, command, **arguments)

    async def token(self, role: str = "member", uses: int = 1) -> str:
        return str((await self.call("token_create", role=role, ttl_s=600, uses=uses))["token"])

    async def peers(self) -> dict[str, str]:
        """State by name."""
        return {peer["name"]: peer["state"] for peer in (await self.call("status"))["peers"]}

    @property
    def membership(self) -> Membership:
        """As it is on disk."""
        content = self.directory.read("mesh")
        assert content is not None
        return Membership.from_bytes(content)

    @property
    def certificate(self) -> MemberCertificate:
        """As it is on disk. Raises Refused when it holds no more."""
        return self.membership.verified(self.clock())


class Agents:
    """Starts agents in one task group, each in a folder of its own below `folder`."""

    def __init__(self, group: asyncio.TaskGroup, folder: Path, clock: Calendar) -> None:
        self._group = group
        self._folder = folder
        self.clock = clock
        self.started: list[RunningAgent] = []

    async def start(self, name: str, *tokens: str, client: bool = False, **settings: Any) -> RunningAgent:
        """settings: more of `Config`."""
        agent = RunningAgent(name, DataDir(self._folder / name), self.clock)
        config = Config(
            name=name, join=tokens, client=client, port=0, bind="127.0.0.1:0", no_mdns=True, no_bend=True,
            data_dir=str(agent.directory.root), **settings,
        )  # fmt: skip
        self.started.append(agent)
        self._group.create_task(self._run(agent, config), name=name)
        await until(lambda: self._answers(agent), f"{name} answers")
        return agent

    async def stop(self, agent: RunningAgent) -> None:
        agent.stop.set()
        await agent.ended.wait()

    async def _run(self, agent: RunningAgent, config: Config) -> None:
        try:
            async with Agent(config, agent.directory, agent.said.append, self.clock).started(agent.stop) as agent.node:
                await agent.node.run(agent.stop, agent.said.append)
        finally:
            agent.ended.set()

    async def _answers(self, agent: RunningAgent) -> bool:
        try:
            await agent.call("status")
        except (NotRunning, CommandFailed):
            return False
        return True


@asynccontextmanager
async def running_agents(folder: Path) -> AsyncIterator[Agents]:
    """Agents that stop with the test."""
    async with asyncio.TaskGroup() as group:
        agents = Agents(group, folder, Calendar())
        yield agents
        for agent in agents.started:
            agent.stop.set()


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait for what the agents do by themselves."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await _holds(holds()):  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


async def _holds(answer: bool | Awaitable[bool]) -> bool:
    return answer if isinstance(answer, bool) else await answer
