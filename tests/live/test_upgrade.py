"""An agent starts on what an older version left behind, and goes on as who it was; never on what a newer one did."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from meshd.datadir import FORMAT
from meshd.local_agents import LocalAgents, last_lines
from tests.live.toy import sees_ready
from tests.meshd.test_data_dirs import FORMATS, copied, expected

ECHO = ("--model", "echo:parrot", "--no-mdns")
ASKS = {"model": "parrot", "messages": [{"role": "user", "content": "hello"}]}


async def answered(api: str, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{api}/v1/chat/completions", json=ASKS, headers=headers) as response:
            return response.status


def leads_again(told: dict[str, Any], status: dict[str, Any]) -> bool:
    return {claim["resource"] for claim in status["claims"]} >= set(told["terms"])


async def test_an_agent_on_the_oldest_directory_keeps_its_identity_mesh_keys_models_and_terms(
    agents: LocalAgents,
) -> None:
    oldest = FORMATS[0]
    told, _ = expected(oldest), copied(oldest, "founder", agents.folder)
    async with agents.start("founder", ECHO) as founder:
        status = await founder.until(lambda status: sees_ready(status, "parrot") and leads_again(told, status), 90)
        assert (status["node"]["id"], status["mesh"]) == (told["node"], told["mesh"])
        assert status["node"]["may_invite"] is True
        assert await answered(status["doors"]["api"], told["key"]) == 200
        assert await answered(status["doors"]["api"], "sk-meshd-none-of-its-keys") == 401
        assert "meshd-toy" in {model["name"] for model in (await founder.call("models"))["models"]}
        terms = {claim["resource"]: claim["term"] for claim in status["claims"]}
        assert all(terms[resource] > term for resource, term in told["terms"].items())
        async with agents.start("newcomer", ["--join", await founder.token("member"), "--no-mdns"]) as newcomer:
            assert (await newcomer.status())["mesh"] == told["mesh"]


async def test_an_agent_refuses_the_directory_of_a_later_version(agents: LocalAgents) -> None:
    directory = copied("1", "founder", agents.folder)
    directory.write("format", str(FORMAT + 1).encode())
    async with agents.launched("founder", ECHO) as founder:
        assert await asyncio.wait_for(founder.child.wait(), 60) == 1
        assert "a newer meshd has written" in last_lines(founder.log)
