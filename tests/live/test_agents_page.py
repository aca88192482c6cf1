"""Everything that docs/agents.md tells to type works against a real model, through a lite client."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from meshd.local_agents import LocalAgents
from tests.live.toy import MODEL, SERVES_TOY, api_of

pytestmark = pytest.mark.timeout(900)
DEADLINE_S = 280.0
PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:9337"
ANSWER = "GPU"
"""A word of the toy's answer to what the page asks."""


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str

    def against(self, api: str) -> str:
        """The block as somebody types it who has this node and this model."""
        assert ADDRESS in self.text, self.text
        return self.text.replace(ADDRESS, api).replace("some-model", MODEL)


def blocks(language: str) -> list[Block]:
    found = [Block(*match.groups()) for match in BLOCK.finditer(PAGE.read_text())]
    return [block for block in found if block.language == language]


async def output_of(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_every_snippet_gets_the_models_answer(agents: LocalAgents) -> None:
    async with (
        agents.start("host", SERVES_TOY) as host,
        agents.start("laptop", ["--client", "--join", await host.token("client")]) as laptop,
    ):
        api = await api_of(laptop)
        python = blocks("python")
        assert len(python) == 5
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(output_of(sys.executable, "-c", block.against(api))) for block in python]
        for block, run in zip(python, runs, strict=True):
            assert ANSWER in run.result(), block.text
        for block in blocks("sh"):
            said = await output_of("sh", "-ec", block.against(api))
            assert ANSWER in said
            assert f'"{MODEL}"' in said
        for block in (*blocks("env"), *blocks("yaml")):
            await asks_as_configured(block.against(api))


async def asks_as_configured(text: str) -> None:
    """What a program does with such a configuration: it lists the models and chats at the address in it."""
    (base,) = re.findall(r"http://[\d.:]+(?:/v1)?", text)
    version = "" if base.endswith("/v1") else "/v1"
    path = f"{base}{version}/{'messages' if 'ANTHROPIC' in text else 'chat/completions'}"
    body = {"model": MODEL, "max_tokens": 60, "messages": [{"role": "user", "content": "What is meshd?"}]}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}{version}/models", headers={"authorization": "Bearer unused"}) as response:
            assert MODEL in [model["id"] for model in (await response.json())["data"]]
        async with session.post(path, json=body, headers={"x-api-key": "unused"}) as response:
            assert response.status == 200
            assert ANSWER in await response.text()
