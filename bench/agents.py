"""How many agents one node keeps: `python -m bench.agents [--json]`, a ramp of sessions over the OpenAI API.

Each of N agents opens a session and waits until all N have one; then all ask at once, streaming, with a text of their
own in which a word of their own follows a key word: they must get that word back. Then they ask again, for another
word of the same text, by when most sessions were parked. Three counts are kept apart: connections open at a time,
sessions that the node keeps, and sequences in the context, which alone are decoded. The last step asks for more
answers at a time than there may be: who is refused must be told when to come back, and comes.

The model recalls by construction (tests/llm/sessions/recall_model.py), so that a wrong answer is the node's fault.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from bench.row import Row
from meshd.local_agents import LocalAgent, local_agents
from tests.llm.sessions.recall_model import word, write_recall_model

RAMP = (1, 4, 16, 64, 128, 256, 320)
WORDS = 96
TOKENS = 16
KEYS, VALUES, FILLERS = range(100), range(100, 300), range(300, 768)
MODEL = "recall"
PATIENCE_S = 600.0
SAMPLE_S = 0.25
DRAIN_S = 3.0


@dataclass(slots=True)
class Asked:
    """One agent's answers, times in seconds. errors: HTTP statuses and what else went wrong."""

    ttft_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)
    right: int = 0
    said: int = 0
    errors: list[str] = field(default_factory=list)
    retried: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One N of the ramp. right: of 2 N answers.  The memory is in MB, the highest seen; before, drained: of agent and
    child, before the sessions were opened and once they are gone.
    """

    agents: int
    opened: int
    completed: int
    right: int
    refused_then_served: int
    errors: dict[str, int]
    ttft_p50_s: float
    ttft_p95_s: float
    total_p50_s: float
    total_p95_s: float
    tokens_per_s: float
    descriptors: int
    agent_mb: float
    child_mb: float
    reserved_kv_mb: float
    live_kv_mb: float
    parked_mb: float
    most_sequences: int
    most_waiting: int
    parkings: int
    before_mb: float = 0.0
    drained_mb: float = 0.0


@dataclass(slots=True)
class Watch:
    """What was highest while a step ran."""

    agent: psutil.Process
    http: aiohttp.ClientSession
    api: str
    descriptors: int = 0
    agent_mb: float = 0.0
    child_mb: float = 0.0
    highest: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        while True:
            self.look()
            async with self.http.get(f"{self.api}/v1/sessions", params={"model": MODEL}) as response:
                totals = (await response.json())["totals"]
            self.highest |= Counter({name: int(value) for name, value in totals.items()})
            await asyncio.sleep(SAMPLE_S)

    def both_mb(self) -> float:
        """The agent, and the child that keeps sessions, once there is one."""
        children = [one for one in self.agent.children(recursive=True) if "llm.sessions.child" in one.cmdline()]
        return float(sum(one.memory_info().rss for one in (self.agent, *children)) / 1e6)

    def look(self) -> None:
        self.descriptors = max(self.descriptors, self.agent.num_fds())
        self.agent_mb = max(self.agent_mb, self.agent.memory_info().rss / 1e6)
        self.child_mb = max(self.child_mb, _child(self.agent).memory_info().rss / 1e6)


def _child(agent: psutil.Process) -> psutil.Process:
    """The process that keeps the sessions."""
    return next(one for one in agent.children(recursive=True) if "llm.sessions.child" in one.cmdline())


@dataclass(slots=True)
class Agent:
    """One of those who ask."""

    number: int
    http: aiohttp.ClientSession
    api: str
    asked: Asked = field(default_factory=Asked)
    session: str = ""

    async def open(self) -> None:
        async with self.http.post(f"{self.api}/v1/sessions", json={"model": MODEL}) as response:
            answer = await response.json()
            if response.status == 201:
                self.session = answer["id"]
            else:
                self.asked.errors.append(f"open {response.status}")

    async def live(self, barrier: asyncio.Barrier) -> None:
        dice = random.Random(self.number)
        pairs = list(zip(dice.sample(KEYS, 2), dice.sample(VALUES, 2), strict=True))
        text = [dice.choice(FILLERS) for _ in range(WORDS)]
        for place, (key, value) in zip(dice.sample(range(1, WORDS // 2 - 1), 2), pairs, strict=True):
            text[2 * place : 2 * place + 2] = [key, value]
        told = "".join(map(word, text))
        for key, value in pairs:
            await barrier.wait()
            if self.session:
                # The whole conversation, as OpenAI's clients send it; the session has all but the key.
                await self._ask(told + word(key), word(value))

    async def _ask(self, text: str, expected: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            retry_after = await self._try(text, expected)
            if retry_after is None:
                return
            self.asked.retried += 1
            await asyncio.sleep(retry_after)
        self.asked.errors.append("out of patience")

    async def _try(self, text: str, expected: str) -> float | None:
        """Ask once; when to come back, where that was the answer."""
        body = {
            "model": MODEL,
            "session_id": self.session,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": TOKENS,
            "temperature": 0,
            "stream": True,
        }
        began, first, said = time.monotonic(), 0.0, ""
        async with self.http.post(f"{self.api}/v1/chat/completions", json=body) as response:
            if response.status == 429:
                return float(response.headers["retry-after"])
            if response.status != 200:
                self.asked.errors.append(str(response.status))
                return None
            async for line in response.content:
                if line.startswith(b"data: {"):
                    first = first or time.monotonic()
                    for choice in json.loads(line[6:]).get("choices", []):
                        said += choice["delta"].get("content", "")
                        self.asked.said += bool(choice["delta"].get("content"))
        self.asked.ttft_s.append(first - began)
        self.asked.total_s.append(time.monotonic() - began)
        self.asked.right += said.startswith(f"{expected} ")
        return None


async def step(agent: LocalAgent, api: str, count: int) -> Step:
    """`count` agents live through their two questions."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:
        agents = [Agent(number, http, api) for number in range(count)]
        watch = Watch(psutil.Process(agent.child.pid), http, api)
        before_mb = watch.both_mb()
        async with asyncio.TaskGroup() as group:
            for one in agents:
                group.create_task(one.open())
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run())
            barrier = asyncio.Barrier(count)
            async with asyncio.TaskGroup() as living:
                for one in agents:
                    living.create_task(one.live(barrier))
            watching.cancel()
        took_s = time.monotonic() - began
        for one in agents:
            async with http.delete(f"{api}/v1/sessions/{one.session}"):
                pass
    await asyncio.sleep(DRAIN_S)
    return replace(_summed(agents, watch, took_s), before_mb=before_mb, drained_mb=watch.both_mb())


def _summed(agents: Sequence[Agent], watch: Watch, took_s: float) -> Step:
    asked = [one.asked for one in agents]
    ttft = sorted(second for one in asked for second in one.ttft_s) or [0.0]
    total = sorted(second for one in asked for second in one.total_s) or [0.0]
    return Step(
        agents=len(agents),
        opened=sum(bool(one.session) for one in agents),
        completed=sum(len(one.total_s) for one in asked),
        right=sum(one.right for one in asked),
        refused_then_served=sum(bool(one.retried) for one in asked),
        errors=dict(Counter(error for one in asked for error in one.errors)),
        ttft_p50_s=statistics.median(ttft),
        ttft_p95_s=ttft[_place(ttft)],
        total_p50_s=statistics.median(total),
        total_p95_s=total[_place(total)],
        tokens_per_s=sum(one.said for one in asked) / took_s,
        descriptors=watch.descriptors,
        agent_mb=watch.agent_mb,
        child_mb=watch.child_mb,
        reserved_kv_mb=watch.highest["context_bytes"] / 1e6,
        live_kv_mb=watch.highest["live_bytes"] / 1e6,
        parked_mb=watch.highest["parked_bytes"] / 1e6,
        most_sequences=watch.highest["resident"],
        most_waiting=watch.highest["waiting"],
        parkings=watch.highest["parkings"],
    )


async def run(ramp: Sequence[int], cells: int) -> list[Step]:
    """Live through the ramp, each step on the same agent."""
    steps = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_recall_model(Path(folder) / f"{MODEL}.gguf", quantised=True)
        arguments = ("--model", str(model), "--ctx", str(cells), "--parallel", "1", "--threads", "1")
        async with local_agents(Path(folder)).start("node", arguments) as agent:
            status = await agent.until(
                lambda status: any(one["state"] == "ready" for one in status["models"]), timeout_s=180
            )
            for count in ramp:
                steps.append(await step(agent, str(status["doors"]["api"]), count))
                print(_line(steps[-1]), flush=True, file=sys.stderr)
    return steps


def _place(ordered: Sequence[float]) -> int:
    """Of the 95th percentile: the nearest rank."""
    return math.ceil(0.95 * len(ordered)) - 1


def _line(one: Step) -> str:
    return (
        f"{one.agents:4d} agents: {one.opened} opened, {one.completed} answers, {one.right} right, "
        f"{one.refused_then_served} told to come back, errors {one.errors or 'none'}; "
        f"TTFT {one.ttft_p50_s:.2f}/{one.ttft_p95_s:.2f} s, total {one.total_p50_s:.2f}/{one.total_p95_s:.2f} s "
        f"(p50/p95), {one.tokens_per_s:.0f} tok/s; {one.descriptors} descriptors, agent {one.agent_mb:.0f} MB, "
        f"child {one.child_mb:.0f} MB, KV reserved {one.reserved_kv_mb:.1f} MB, "
        f"live {one.live_kv_mb:.1f} MB, parked {one.parked_mb:.1f} MB; "
        f"{one.most_sequences} sequences, {one.most_waiting} waiting, {one.parkings} parkings so far; "
        f"both {one.before_mb:.0f} MB before, {one.drained_mb:.0f} MB once they left"
    )


def rows(steps: Sequence[Step]) -> list[Row]:
    """ours: right answers.  baseline: questions asked."""
    return [
        Row(f"agents-{one.agents}", one.right, 2 * one.agents, "questions asked", one.right / (2 * one.agents), *UNIT)
        for one in steps
    ]


UNIT = ("right answers", "higher", 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.agents", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ramp", type=int, nargs="*", default=RAMP)
    parser.add_argument("--cells", type=int, default=16384, help="of the context that all sequences share")
    options = parser.parse_args()
    steps = uvloop.run(run(options.ramp, options.cells))
    if options.json:
        shown: dict[str, Any] = {
            "name": "agents",
            "machine": platform.machine(),
            "steps": [asdict(one) for one in steps],
        }
        print(json.dumps(shown | {"rows": [asdict(row) for row in rows(steps)]}))


if __name__ == "__main__":
    main()
