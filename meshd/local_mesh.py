"""Several real agents in one mesh, which can be killed, stopped and started again: for tests and benches.

What each says of the others is read from its log, where every change has its time: nobody has to ask, and
nothing short is missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from meshd.local_agents import AgentFailed, LocalAgent, last_lines

POLL_S = 0.02
MEETING_S = 120.0

State = Literal["alive", "suspect", "dead", "left"]

# As `gossip.chronicle` words them.
_STATES: dict[str, State] = {
    "is in the mesh": "alive",
    "has answered": "alive",
    "is back": "alive",
    "does not answer": "suspect",
    "counts as dead": "dead",
    "has left": "left",
}
_SAID = re.compile(rf"(?P<subject>\S+) \(\w+\) (?P<words>{'|'.join(_STATES)})(?:, says (?P<accuser>\w+))?")


@dataclass(frozen=True, slots=True)
class Change:
    """What one agent came to think of another. at: Unix seconds.  accuser: the short id of who says so, or empty."""

    at: float
    observer: str
    subject: str
    state: State
    accuser: str


def read_changes(observer: str, log: Path) -> list[Change]:
    """Every change that an agent with `--log-format json` tells of, oldest first."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [change for line in lines if (change := _change(observer, line)) is not None]


def _change(observer: str, line: str) -> Change | None:
    if '"meshd.gossip"' not in line:
        return None
    entry = json.loads(line)
    said = _SAID.fullmatch(entry["message"])
    if said is None:
        return None
    at = datetime.fromisoformat(entry["time"]).timestamp()
    return Change(at, observer, said["subject"], _STATES[said["words"]], said["accuser"] or "")


class Starter(Protocol):
    """`LocalAgents`, or `ImpairedAgents` for bad ways."""

    def start(self, name: str, arguments: Sequence[str] = ()) -> AbstractAsyncContextManager[LocalAgent]: ...


class LocalMesh:
    """Agents by name, the founder first. Use as `async with`; leaving it kills them all."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._stacks: dict[str, AsyncExitStack] = {}
        self._arguments: dict[str, tuple[str, ...]] = {}
        self.agents: dict[str, LocalAgent] = {}
        """Every agent that was ever started; those killed too, until they are started again."""

    async def __aenter__(self) -> LocalMesh:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill(*self._stacks)

    @property
    def running(self) -> tuple[str, ...]:
        """The names of those that have not been killed."""
        return tuple(self._stacks)

    async def found(self, names: Sequence[str], serving: Iterable[str] = (), arguments: Sequence[str] = ()) -> None:
        """Start the first, let the others join it all at once, and wait until everyone sees everyone.

        serving: those that get `arguments`.
        """
        founder, *others = names
        extra = dict.fromkeys(serving, tuple(arguments))
        await self.start(founder, *extra.get(founder, ()))
        token = await self.agents[founder].token("member", uses=max(1, len(others)))
        async with asyncio.TaskGroup() as group:
            for name in others:
                group.create_task(self.join(name, token, *extra.get(name, ())), name=f"start {name}")
        await self.until_met()

    async def start(self, name: str, *arguments: str) -> LocalAgent:
        """Start a new agent."""
        self._arguments[name] = arguments
        return await self._start(name)

    async def join(self, name: str, token: str, *arguments: str) -> LocalAgent:
        """Start a new agent that joins by `token`."""
        self._arguments[name] = arguments
        return await self._start(name, "--join", token)

    async def kill(self, *names: str) -> float:
        """End these agents at once, as SIGKILL does. Returns when, in Unix seconds."""
        at = time.time()
        for name in names:
            os.kill(self.agents[name].child.pid, signal.SIGKILL)
        for name in names:
            await self._stacks.pop(name).aclose()
        return at

    async def start_again(self, *names: str) -> None:
        """Start those that were killed from their data directories, all at once, at the addresses they had."""
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._start(name), name=f"start {name} again")

    async def until_met(self, timeout_s: float = MEETING_S) -> None:
        """Wait until each that runs is linked to, and sees alive, all others that run. Raises AgentFailed."""
        async with asyncio.TaskGroup() as group:
            for name in self.running:
                others = set(self.running) - {name}
                group.create_task(_until_it_sees(self.agents[name], others, timeout_s), name=f"{name} meets all")

    def changes(self, since: float = 0.0) -> list[Change]:
        """What the running agents came to think of others after `since` (Unix seconds), oldest first."""
        told = [change for name in self.running for change in read_changes(name, self.agents[name].log)]
        return sorted((change for change in told if change.at >= since), key=lambda change: change.at)

    async def until_told(self, subject: str, state: State, since: float, timeout_s: float) -> dict[str, float]:
        """Wait until every other agent that runs has said, after `since`, that `subject` is in `state`.

        Seconds after `since` by observer, of the first time each. Raises AgentFailed.
        """
        deadline = time.monotonic() + timeout_s
        waiting = set(self.running) - {subject}
        while True:
            told = [one for one in self.changes(since) if one.subject == subject and one.state == state]
            if waiting <= {one.observer for one in told}:
                return {one.observer: one.at - since for one in reversed(told)}
            if time.monotonic() > deadline:
                silent = sorted(waiting - {one.observer for one in told})
                logs = "\n".join(f"{name}:\n{last_lines(self.agents[name].log)}" for name in silent)
                raise AgentFailed(f"not {state} within {timeout_s:.0f} s: {subject} according to {silent}\n{logs}")
            await asyncio.sleep(POLL_S)

    async def _start(self, name: str, *joining: str) -> LocalAgent:
        before = self.agents.get(name)
        stack = AsyncExitStack()
        arguments = ("--log-format", "json", *self._arguments[name], *joining)
        agent = await stack.enter_async_context(self._starter.start(name, arguments))
        self._stacks[name] = stack
        self.agents[name] = agent
        if before is None:
            self._arguments[name] += ("--bind", str((await agent.status())["doors"]["mesh"]))
        return agent


async def _until_it_sees(agent: LocalAgent, others: set[str], timeout_s: float) -> None:
    def holds(status: dict[str, object]) -> bool:
        peers, links = status["peers"], status["links"]
        assert isinstance(peers, list) and isinstance(links, list)
        alive = {peer["name"] for peer in peers if peer["state"] == "alive"}
        return others <= alive and others <= {link["name"] for link in links if link["state"] == "connected"}

    await agent.until(holds, timeout_s)
