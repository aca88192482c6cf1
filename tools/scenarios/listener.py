"""Listens to streamed answers, for scenarios that break what gives them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from meshd.local_agents import LocalAgent
from tools.scenarios.stage import api_of

ENDLESS = 100_000
"""Tokens that no scenario waits for."""


@dataclass(slots=True)
class Heard:
    """What has come of a stream so far. node: that answers.  error: of the error event that ended it.

    is_whole: it ended in order.  longest_pause_s: between two events.
    """

    node: str = ""
    text: str = ""
    error: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = False
    longest_pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Listener:
    """A stream that is being listened to. heard: up to now."""

    heard: Heard
    _task: asyncio.Task[None]

    async def ended(self, timeout_s: float) -> Heard:
        """All of it, once it has ended. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(self._task)
        return self.heard


@asynccontextmanager
async def listening(agent: LocalAgent, model: str, question: str, tokens: int = ENDLESS) -> AsyncIterator[Listener]:
    """Ask `agent` for a streamed greedy answer of exactly so many tokens; enter once its first words have come."""
    begun, heard = asyncio.Event(), Heard()
    url = f"{await api_of(agent)}/v1/chat/completions"
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "temperature": 0, "stream": True}
    body |= {"max_tokens": tokens, "n_predict": tokens, "ignore_eos": True}
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_listen(url, body, heard, begun), name=f"listen to {agent.name}")
        try:
            async with asyncio.timeout(60):
                await begun.wait()
            yield Listener(heard, task)
        finally:
            task.cancel()


async def _listen(url: str, body: dict[str, Any], heard: Heard, begun: asyncio.Event) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=body) as response:
        heard.node = response.headers.get("x-meshd-node", "")
        latest = time.monotonic()
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic()
            heard.longest_pause_s, latest = max(heard.longest_pause_s, now - latest), now
            _take(line[6:].strip(), heard)
            if heard.text or heard.error:
                begun.set()
    begun.set()


def _take(data: bytes, heard: Heard) -> None:
    if data == b"[DONE]":
        heard.is_whole = True
        return
    event = json.loads(data)
    if "error" in event:
        heard.error = event["error"]
        return
    heard.text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
