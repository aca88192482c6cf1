"""Rows 3 and 4 of the list of live tests: a model on two real agents, by force, by need, and when the second comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

import llm.demo
from meshd.local_agents import LocalAgents
from tests.live.toy import HOUR, MODEL, SERVES_TOY, api_of, chat

pytestmark = pytest.mark.timeout(180)

PATIENCE_S = 90.0
DRAFT = str(Path(llm.demo.__file__).with_name("meshd-toy-draft.gguf"))
QUESTION = "What is meshd?"


def entry(status: dict[str, Any], model: str = MODEL) -> dict[str, Any]:
    return next((one for one in status["models"] if one["name"] == model), {"state": "unknown", "mode": "none"})


def is_ready_as(mode: str, model: str = MODEL) -> Any:
    def holds(status: dict[str, Any]) -> bool:
        return (entry(status, model)["mode"], entry(status, model)["state"]) == (mode, "ready")

    return holds


async def ask(api: str, **options: Any) -> tuple[aiohttp.ClientResponse, dict[str, Any]]:
    body = chat(QUESTION, **options)
    async with (
        aiohttp.ClientSession(timeout=HOUR) as session,
        session.post(f"{api}/v1/chat/completions", json=body) as response,
    ):
        return response, await response.json()


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


async def test_a_forced_split_shares_by_memory_answers_alike_and_drafts(agents: LocalAgents) -> None:
    async with agents.start("alone", SERVES_TOY) as alone:
        _, expected = await ask(await api_of(alone))

    large = [*SERVES_TOY, "--split", "--draft", DRAFT, "--vram-limit", "2"]
    async with (
        agents.start("large", large) as host,
        agents.start("small", ["--vram-limit", "1", "--join", await host.token("member")]) as small,
    ):
        status = await small.until(is_ready_as("split"), PATIENCE_S)
        response, answer = await ask(status["doors"]["api"])

    model = entry(status)
    assert [(part["name"], part["share"]) for part in model["workers"]] == [("large", 0.67), ("small", 0.33)]
    assert model["host"] == "large"
    assert response.headers["x-meshd-mode"] == "split"
    assert text_of(answer) == text_of(expected)
    assert answer["timings"]["draft_n"] > 0
    assert answer["timings"]["draft_n_accepted"] > 0
