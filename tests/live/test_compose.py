"""The words of the compose file, typed on this machine: no container engine, but the same agents in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from ruamel.yaml import YAML

from meshd.control import ControlClient
from meshd.launcher import ProcessLauncher
from meshd.local_agents import LocalAgent, LocalAgents

ROOT = Path(__file__).parents[2]


def services() -> Mapping[str, Mapping[str, Any]]:
    document = YAML(typ="safe").load((ROOT / "containers/compose.yaml").read_text("utf-8"))
    return dict(document["services"])


def words_of(service: Mapping[str, Any], folder: Path) -> list[str]:
    """What its container runs, with its folders in `folder` and the toy that lies in this checkout."""
    entry = list(service.get("entrypoint", ["meshd"]))
    model = "${MESHD_MODEL:-/opt/venv/lib/python3.12/site-packages/llm/demo/meshd-toy.gguf}"
    here = {"$$": "$", "/tokens": str(folder / "tokens"), "/run/secrets": str(folder), "0.0.0.0": "127.0.0.1"}
    here[model] = str(ROOT / "llm/demo/meshd-toy.gguf")
    words = [*entry, *service["command"]]
    for there, where in here.items():
        words = [word.replace(there, where) for word in words]
    return words


@contextlib.asynccontextmanager
async def container(name: str, agents: LocalAgents, data: str) -> AsyncIterator[LocalAgent]:
    """Run one service with `data` as its volume. `exec` needs a `meshd` on PATH: the environment's."""
    directory, log = agents.folder / data, agents.folder / f"{name}.log"
    ports = ("MESHD_PORT", "MESHD_CONSOLE_PORT", "MESHD_BEND_PORT")
    environment = {
        **dict.fromkeys(ports, "0"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MESHD_DATA_DIR": str(directory),
        "MESHD_BIND": "127.0.0.1:0",
        "MESHD_NO_MDNS": "1",
    }
    words = words_of(services()[name], agents.folder)
    async with ProcessLauncher(os.environ).start(words, environment, log) as child:
        yield LocalAgent(name, child, ControlClient(directory / "control.sock"), directory, log)


async def test_three_services_become_a_mesh_that_answers_its_client(agents: LocalAgents) -> None:
    (agents.folder / "tokens").mkdir()
    (agents.folder / "api-keys").write_text("sk-a-key-that-a-person-made\n")
    key = {"authorization": "Bearer sk-a-key-that-a-person-made"}
    async with container("founder", agents, "founder") as founder:
        await founder.until(lambda status: True, 60)
        async with container("invite", agents, "founder") as invite, asyncio.timeout(60):
            assert await invite.child.wait() == 0
        async with container("member", agents, "member") as member, container("client", agents, "client") as client:
            await member.until(lambda status: len(status["peers"]) == 2, 60)
            status = await client.until(lambda status: any(m["state"] == "ready" for m in status["models"]), 60)
            url = f"{status['doors']['api']}/v1/models"
            async with aiohttp.ClientSession() as session:
                async with session.get(url, headers=key) as answered:
                    assert answered.status == 200
                    assert "meshd-toy" in await answered.text()
                async with session.get(url) as refused:
                    assert refused.status == 401
    assert {status["node"]["name"], status["node"]["role"]} == {"laptop", "client"}
