"""An OpenAI server that a host runs already answers for the whole mesh, and survives its own restart."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest

from llm.engines.interface import Child
from llm.engines.llama_binary import find_llama_server
from meshd.hardware import GIB
from meshd.launcher import ProcessLauncher
from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.test_models import run_models
from tests.live.toy import MODEL, TOY
from tests.llm.managed_server import managed
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.ports import free_port

WAIT_S = 60.0


def state_of(model: str, status: dict[str, object]) -> str:
    models = status["models"]
    assert isinstance(models, list)
    return next((str(one["state"]) for one in models if one["name"] == model), "unknown")


async def until_state(agent: LocalAgent, model: str, state: str) -> None:
    await agent.until(lambda status: state_of(model, status) == state, WAIT_S)


async def api_of(agent: LocalAgent) -> str:
    return str((await agent.status())["doors"]["api"])


async def ask(agent: LocalAgent, model: str) -> tuple[int, str]:
    """Status and the answer's text, or its error's code."""
    body = {"model": model, "messages": [{"role": "user", "content": "one two"}], "max_tokens": 2}
    url = f"{await api_of(agent)}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        answer = await response.json()
        return response.status, answer["choices"][0]["message"]["content"] if response.ok else answer["error"]["code"]


async def test_a_server_of_the_hosts_own_serves_the_mesh(agents: LocalAgents, tmp_path: Path) -> None:
    port = free_port()

    def server() -> AbstractAsyncContextManager[Child]:
        argv = [sys.executable, "-m", "llm.engines.echo", "--port", str(port), "--tokens-per-s", "0"]
        return ProcessLauncher(os.environ).start(argv, {}, tmp_path / "server.log")

    async with agents.start("host", ["--upstream", f"old/=http://127.0.0.1:{port}/v1"]) as host:
        async with agents.start("client", ["--client", "--join", await host.token("client")]) as client:
            model = "old/echo"
            async with server():
                await until_state(client, model, "ready")
                status, said = await ask(client, model)
                assert (status, len(said.split())) == (200, 2)
                assert await ask(host, model) == (status, said)
            await until_state(client, model, "failed")
            assert await ask(client, model) == (503, "no_host")
            async with server():
                await until_state(client, model, "ready")
                assert await ask(client, model) == (status, said)
                # Its other paths are not for everybody.
                async with aiohttp.ClientSession() as session:
                    async with session.post(f"{await api_of(client)}/api/delete", json={"model": model}) as response:
                        assert response.status == 404


LIMIT_GB, SERVER_GB = 0.205, 0.2


async def test_a_plain_llama_server_makes_room_for_a_model_and_comes_back(agents: LocalAgents, tmp_path: Path) -> None:
    """Two that do not fit beside one another: whichever is asked for comes, and the other goes."""
    binary, port = find_llama_server(), free_port()
    argv = [str(binary.path), "--model", str(write_tiny_gguf(tmp_path / "plain.gguf")), "--alias", "plain"]
    argv += ["--port", str(port), "--threads", "1", "--ctx-size", "512", "--parallel", "1", "--no-webui"]
    with managed(tmp_path, argv, f"LD_LIBRARY_PATH={binary.library_dir or ''}") as server:
        spec = f"old/=http://127.0.0.1:{port} models=plain memory={SERVER_GB} {server.options}"
        toy = ("--lazy", str(TOY), "--threads", "1", "--ctx", "512", "--parallel", "1")
        async with agents.start("host", [*toy, "--upstream", spec, "--vram-limit", str(LIMIT_GB)]) as host:
            await until_state(host, "old/plain", "unloaded")
            assert (await ask(host, "old/plain"))[0] == 200
            assert await held_gb(host, "old/plain") == pytest.approx(SERVER_GB, rel=0.01)

            assert (await ask(host, MODEL))[0] == 200
            await server.ended()
            assert await held_gb(host, "old/plain") == 0
            assert await held_gb(host, MODEL) > LIMIT_GB - SERVER_GB

            assert (await ask(host, "old/plain"))[0] == 200
            assert await held_gb(host, MODEL) == 0

            assert (await run_models(host, "unload", "old/plain"))[:2] == (0, "old/plain: unloaded\n")
            await server.ended()
            words = f"old/plain: ready; http://127.0.0.1:{port} answers\n"
            assert (await run_models(host, "load", "old/plain"))[:2] == (0, words)
            assert server.is_running


async def held_gb(agent: LocalAgent, model: str) -> float:
    """What of the ledger that model holds."""
    rows = (await agent.call("models"))["models"]
    return float(next(row["held_bytes"] for row in rows if row["name"] == model)) / GIB


async def test_a_spec_that_cannot_be_used_stops_the_start_in_words(agents: LocalAgents) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshd", "--data-dir", str(agents.folder / "x"), "--upstream", "x=nonsense"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 1
    assert b"expected NAME=URL" in printed
