"""What a scenario runs on: agents on this machine, models made for it, and words for who watches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy

import llm.demo
from meshd.local_agents import LocalAgent, LocalAgents
from tests.llm.tiny_gguf import write_tiny_gguf

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
TOY_DRAFT = TOY.with_name("meshd-toy-draft.gguf")
PATIENCE_S = 90.0
ANSWER_S = 60.0


class DidNotHold(Exception):
    """Something that the scenario shows was not so."""


@dataclass
class Stage:
    """agents: start them with it, they end with the scenario.  say: prints a line."""

    agents: LocalAgents
    folder: Path
    say: Callable[[str], None]
    _steps: int = field(default=0, init=False)

    def step(self, words: str) -> None:
        """Say what is done next."""
        self._steps += 1
        self.say(f"{self._steps}. {words}")

    def show(self, words: str) -> None:
        """Say what is to be seen."""
        self.say(f"     {words}")

    def check(self, claim: str, holds: bool, seen: object = "") -> None:
        """Say that `claim` holds; raise DidNotHold with what was seen instead when it does not."""
        self.say(f"   {'✓' if holds else '✗'} {claim}")
        if not holds:
            raise DidNotHold(f"{claim}: seen {seen!r}")

    def model(self, name: str, **shape: Any) -> Path:
        """A random model made for this scenario; shape: as `write_tiny_gguf`, weights of 16 bits."""
        return write_tiny_gguf(self.folder / f"{name}.gguf", matrix_type=numpy.float16, **shape)


def entry(status: dict[str, Any], model: str) -> dict[str, Any]:
    """What a status says of a model; a state of its own when it says nothing."""
    return next((one for one in status["models"] if one["name"] == model), {"state": "unknown", "mode": "none"})


async def until_served(agent: LocalAgent, model: str, mode: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """Wait until `agent` knows a node that answers for the model in that mode; what its status says then."""

    def holds(status: dict[str, Any]) -> bool:
        found = entry(status, model)
        return (found["mode"], found["state"]) == (mode, "ready")

    return entry(await agent.until(holds, timeout_s), model)


async def now(agent: LocalAgent) -> dict[str, Any]:
    """Its status, also where a loaded machine keeps it from answering for a while."""
    return await agent.until(lambda status: True, PATIENCE_S)


async def api_of(agent: LocalAgent) -> str:
    return str((await now(agent))["doors"]["api"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API of an agent answered to a greedy chat."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.body["choices"][0]["message"]["content"])

    @property
    def error(self) -> str:
        return str(self.body["error"]["message"])


async def ask(agent: LocalAgent, model: str, question: str, tokens: int = 40, **options: Any) -> Answer:
    """Ask `agent` a greedy chat."""
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": tokens, **options}
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    url = f"{await api_of(agent)}/v1/chat/completions"
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=body) as response:
        return Answer(response.status, dict(response.headers), json.loads(await response.read()))
