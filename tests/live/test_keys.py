"""Keys of a running agent: made, limited and revoked by the command line, at once; limits and pages over real HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from meshd.local_agents import LocalAgent, LocalAgents

ECHO = ("--model", "echo:parrot")
ASKS = {"model": "parrot", "messages": [{"role": "user", "content": "hello"}]}


def meshd_key(directory: Path, *arguments: str) -> dict[str, Any]:
    """What `meshd key … --json` prints."""
    argv = [sys.executable, "-m", "meshd", "key", *arguments, "--data-dir", str(directory), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=250, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def ask(agent: LocalAgent, key: str = "", **headers: str) -> tuple[int, dict[str, Any], Any]:
    api = (await agent.status())["doors"]["api"]
    given = headers | ({"authorization": f"Bearer {key}"} if key else {})
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{api}/v1/chat/completions", json=ASKS, headers=given) as response,
    ):
        return response.status, await response.json(content_type=None), response.headers


async def test_keys_are_made_limited_and_revoked_while_the_agent_runs(agents: LocalAgents) -> None:
    async with agents.start("founder", ECHO) as founder:
        assert (await ask(founder))[0] == 200
        made = await asyncio.to_thread(meshd_key, founder.directory, "create", "laptop", "--rate", "2")
        assert (await ask(founder))[0] == 401
        status, _, headers = await ask(founder, made["key"])
        assert status == 200
        assert (await ask(founder, **{"x-api-key": made["key"]}))[0] == 200
        status, answer, headers = await ask(founder, made["key"])
        assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
        assert int(headers["retry-after"]) >= 1
        (shown,) = (await asyncio.to_thread(meshd_key, founder.directory, "list"))["keys"]
        assert (shown["name"], shown["state"]) == ("laptop", "valid")
        assert made["key"] not in (founder.directory / "keys.json").read_text() + founder.log.read_text()
        await asyncio.to_thread(meshd_key, founder.directory, "revoke", "laptop")
        status, answer, _ = await ask(founder, made["key"])
        assert (status, "revoked" in answer["error"]["message"]) == (401, True)


async def test_an_api_on_the_network_wants_a_key_made_first(agents: LocalAgents) -> None:
    refused = ("--listen", "0.0.0.0")
    async with agents.launched("founder", refused) as founder:
        assert await asyncio.wait_for(founder.child.wait(), 60) == 1
    assert "meshd key create" in founder.log.read_text()
    made = await asyncio.to_thread(meshd_key, founder.directory, "create", "laptop")
    async with agents.start("founder", [*ECHO, *refused, "--keyless-network", "10.99.0.0/16"]) as founder:
        assert (await ask(founder))[0] == 401
        assert (await ask(founder, made["key"]))[0] == 200


async def test_a_page_from_elsewhere_gets_nothing_done(agents: LocalAgents) -> None:
    async with agents.start("founder", [*ECHO, "--allow-origin", "https://chat.example"]) as founder:
        assert (await ask(founder, origin="https://evil.example"))[0] == 403
        assert (await ask(founder, host="evil.example"))[0] == 403
        status, _, headers = await ask(founder, origin="https://chat.example")
        assert (status, headers["access-control-allow-origin"]) == (200, "https://chat.example")
