"""The shipped toy model, and agents that serve it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil

import llm.demo
from meshd.local_agents import LocalAgent

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
MODEL = TOY.stem
SERVES_TOY = ("--model", str(TOY), "--threads", "1")
LOAD_TIMEOUT_S = 120.0
HOUR = aiohttp.ClientTimeout(total=200)


def sees_ready(status: dict[str, Any], model: str = MODEL) -> bool:
    """Whether that agent knows a node that can answer for the model."""
    return any(entry["name"] == model and entry["state"] == "ready" for entry in status["models"])


async def api_of(agent: LocalAgent, model: str = MODEL) -> str:
    """The agent's API, once it sees the model ready."""
    status = await agent.until(lambda status: sees_ready(status, model), LOAD_TIMEOUT_S)
    return str(status["doors"]["api"])


def chat(question: str, **options: Any) -> dict[str, Any]:
    """The body of a greedy chat with the toy."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 100,
        **options,
    }


LONG_ANSWER: dict[str, Any] = {"stream": True, "ignore_eos": True, "max_tokens": 100_000, "n_predict": 100_000}
"""An answer that does not end by itself within a test."""


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event, up to [DONE]. Anything that is no event fails."""
    async for line in response.content:
        if not line.strip():
            continue
        assert line.startswith(b"data: "), line
        if line.strip() == b"data: [DONE]":
            return
        yield json.loads(line[6:])


def engine_process(agent: LocalAgent) -> psutil.Process:
    """The llama-server that this agent runs."""
    children = psutil.Process(agent.child.pid).children(recursive=True)
    return next(child for child in children if child.name() == "llama-server")
