"""Breaks a mesh of real agents in one place at a time, waits a while, and mends it again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

from meshd.impaired_agents import ImpairedAgents
from meshd.local_mesh import LocalMesh

KINDS = ("agent killed", "engine killed", "RPC server killed", "link cut", "all links cut", "agent stopped")
WEIGHTS = (3, 3, 2, 2, 1, 2)
DOWN_S = (0.5, 4.0)
"""How long a killed agent stays away."""
CUT_S = (1.0, 12.0)
"""Across the 10 s that a tunnel waits for its link."""
ALL_CUT_S = (0.5, 5.0)
STOPPED_S = (1.0, 6.0)
ENGINES = {"engine killed": "llama-server", "RPC server killed": "ggml-rpc-server"}


@dataclass
class Victims:
    """What may be broken, and when each agent was away. spared: agents that are only ever cut off.

    doors: API by name, of the agents that run; kept up to date here.
    """

    mesh: LocalMesh
    ways: ImpairedAgents
    spared: frozenset[str]
    doors: dict[str, str]
    dice: random.Random
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    kills: list[tuple[str, float]] = field(default_factory=list)
    """Which agent was killed when, by the monotonic clock."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: what is broken is mended now."""

    def was_killed(self, name: str, since: float, until: float) -> bool:
        return any(victim == name and since <= at <= until for victim, at in self.kills)

    async def harm(self) -> None:
        """Break one thing, and mend it after a while."""
        (kind,) = self.dice.choices(KINDS, WEIGHTS)
        name = self.dice.choice(sorted(set(self.doors) - self.spared))
        match kind:
            case "agent killed":
                await self._kill(name)
            case "link cut":
                await self._cut([name], self.dice.uniform(*CUT_S))
            case "all links cut":
                await self._cut(sorted(self.ways.ways), self.dice.uniform(*ALL_CUT_S))
            case "agent stopped":
                await self._stop(name)
            case _:
                self._kill_engine(kind)

    async def _kill(self, name: str) -> None:
        del self.doors[name]
        self.kills.append((name, time.monotonic()))
        await self.mesh.kill(name)
        self._note("agent killed", name)
        try:
            await self._rest(self.dice.uniform(*DOWN_S))
        finally:
            await self.start_again(name)

    async def start_again(self, name: str) -> None:
        """Start an agent that was killed, and note its door."""
        await self.mesh.start_again(name)
        self.doors[name] = str((await self.mesh.agents[name].status())["doors"]["api"])
        self.say(f"{name} runs again")

    async def _stop(self, name: str) -> None:
        with suspended(self.mesh.agents[name].child.pid):
            door = self.doors.pop(name)  # its door would only make whoever asks there wait as long
            self._note("agent stopped", name)
            await self._rest(self.dice.uniform(*STOPPED_S))
        self.doors[name] = door

    async def _cut(self, names: list[str], seconds: float) -> None:
        for name in names:
            self.ways.ways[name].cut()
        self._note("all links cut" if len(names) > 1 else "link cut", f"{', '.join(names)} for {seconds:.1f} s")
        try:
            await self._rest(seconds)
        finally:
            for name in names:
                self.ways.ways[name].mend()

    async def _rest(self, seconds: float) -> None:
        """Leave things as they are for so long, or until all is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()

    def _kill_engine(self, kind: str) -> None:
        running = [
            (name, child)
            for name in sorted(self.mesh.running)
            for child in _children(self.mesh.agents[name].child.pid)
            if _is_called(child, ENGINES[kind])
        ]
        if running:
            name, process = self.dice.choice(running)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            self._note(kind, name)

    def _note(self, kind: str, where: str) -> None:
        self.done[kind] += 1
        self.say(f"{kind}: {where}")


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Stop a process meanwhile (SIGSTOP)."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _is_called(process: psutil.Process, name: str) -> bool:
    try:
        return bool(process.name() == name)
    except psutil.NoSuchProcess:
        return False


async def harm_until_over(victims: Victims, pause_s: tuple[float, float]) -> None:
    """Break one thing after the other until all is over; the last is mended before this returns."""
    while not victims.over.is_set():
        await victims.harm()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(victims.dice.uniform(*pause_s)):
                await victims.over.wait()
