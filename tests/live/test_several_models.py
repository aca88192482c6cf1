"""Several models in one mesh: each request is answered by its own, equal hosts share, conversations stay."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.toy import LOAD_TIMEOUT_S, sees_ready
from tests.llm.tiny_gguf import write_tiny_gguf

SEED = 20


async def door(agent: LocalAgent, *models: str, hosts: int = 1) -> str:
    """The agent's API, once it sees the models ready on so many hosts each."""

    def holds(status: dict[str, Any]) -> bool:
        found = {one["name"]: len(one["hosts"]) for one in status["models"]}
        return all(sees_ready(status, model) and found[model] >= hosts for model in models)

    return str((await agent.until(holds, LOAD_TIMEOUT_S))["doors"]["api"])


async def ask(session: aiohttp.ClientSession, api: str, model: str, prompt: str, tokens: int = 4) -> tuple[str, str]:
    """The answer and the node that gave it."""
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    async with session.post(f"{api}/v1/completions", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer["choices"][0]["text"], response.headers["x-meshd-node"]


async def test_a_hundred_of_a_hundred_are_answered_by_the_right_model(agents: LocalAgents, tmp_path: Path) -> None:
    names = [f"model-{number}" for number in range(3)]
    files = [write_tiny_gguf(tmp_path / f"{name}.gguf", seed=number + 1) for number, name in enumerate(names)]
    serves = [word for file in files for word in ("--model", str(file))]
    dice = random.Random(SEED)
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(agents.start("host", [*serves, "--threads", "1"]))
        joins = ["--join", await host.token("member")]
        other = await stack.enter_async_context(agents.start("other", joins))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        near, far = await door(host, *names), await door(other, *names)
        right = {name: (await ask(session, near, name, "Once upon a time"))[0] for name in names}
        assert len(set(right.values())) == 3
        asked = [dice.choice(names) for _ in range(100)]
        given = await asyncio.gather(*(ask(session, far, name, "Once upon a time") for name in asked))
        assert [text for text, _ in given] == [right[name] for name in asked]


async def test_two_hosts_of_one_model_share_its_load(agents: LocalAgents, tmp_path: Path) -> None:
    file = str(write_tiny_gguf(tmp_path / "shared.gguf"))
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(agents.start("one", ["--model", file, "--threads", "1"]))
        serves = ["--model", file, "--threads", "1", "--join", await one.token("member")]
        await stack.enter_async_context(agents.start("two", serves))
        joins = ["--client", "--join", await one.token("client")]
        client = await stack.enter_async_context(agents.start("client", joins))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        api = await door(client, "shared", hosts=2)
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            # Who still loads comes after who has loaded.
            while (
                len({node for _, node in await asyncio.gather(*[ask(session, api, "shared", "Hi") for _ in "ab"])}) < 2
            ):
                pass
        given = await asyncio.gather(*(ask(session, api, "shared", "Hello", 40) for _ in range(24)))
        shares = Counter(node for _, node in given)
        assert set(shares) == {"one", "two"}
        assert min(shares.values()) >= 6, shares


async def test_a_conversation_is_not_read_twice(agents: LocalAgents, tmp_path: Path) -> None:
    """Warm times to the first token are a fifth of cold ones at most, with two hosts to go wrong between."""
    file = str(write_tiny_gguf(tmp_path / "slow.gguf", width=512, layers=6))
    options = ["--model", file, "--threads", "1", "--parallel", "2", "--ctx", "2048"]
    dice = random.Random(SEED)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(agents.start("one", options))
        serves = [*options, "--join", await one.token("member")]
        await stack.enter_async_context(agents.start("two", serves))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        api = await door(one, "slow", hosts=2)
        cold: list[float] = []
        warm: list[float] = []
        for _ in range(3):
            talk = "".join(dice.choice("abcdefgh ") for _ in range(1200))
            for turn in range(4):
                times = cold if turn == 0 else warm
                times.append(await first_token_s(session, api, talk))
                talk += "so?"
        print(f"cold {statistics.median(cold):.3f} s, warm {statistics.median(warm):.3f} s")
        assert statistics.median(warm) <= 0.2 * statistics.median(cold)


async def first_token_s(session: aiohttp.ClientSession, api: str, talk: str) -> float:
    body = {"model": "slow", "prompt": talk, "max_tokens": 1, "temperature": 0, "stream": True}
    start = time.monotonic()
    async with session.post(f"{api}/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        await response.content.readany()
        taken = time.monotonic() - start
        await response.read()
    return taken
