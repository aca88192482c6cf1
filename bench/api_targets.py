"""The three ways to one engine that `bench.api` compares: straight, through its agent, through a lite client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import aiohttp

import llm.demo
from bench.chat_load import Target
from llm.engines.llama_arguments import LlamaServerOptions, arguments
from llm.engines.llama_binary import find_llama_server
from meshd.launcher import ProcessLauncher
from meshd.local_agents import LocalAgent, local_agents

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
ECHO = "parrot"
SLOTS = 64
TOY_CONTEXT_TOKENS = 512


@asynccontextmanager
async def targets(engine: Literal["echo", "toy"], rate: float) -> AsyncIterator[tuple[Target, Target, Target]]:
    """Start everything; straight, local and hop, in this order."""
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
        async with AsyncExitStack() as stack:
            if engine == "echo":
                model, served = ECHO, ["--model", f"echo:{ECHO}@{rate:g}"]
                direct = await stack.enter_async_context(_bare_echo(Path(folder), rate))
            else:
                model, served = TOY.stem, ["--model", str(TOY), "--threads", "1", "--ctx", str(TOY_CONTEXT_TOKENS)]
                direct = await stack.enter_async_context(_bare_llama_server(Path(folder)))
            agents = local_agents(Path(folder))
            host = await stack.enter_async_context(agents.start("host", [*served, "--parallel", str(SLOTS)]))
            joins = ["--client", "--join", await host.token("client")]
            client = await stack.enter_async_context(agents.start("client", joins))
            local, hop = await _api(host, model), await _api(client, model)
            yield direct, Target("local", local, model), Target("hop", hop, model)


async def _api(agent: LocalAgent, model: str) -> str:
    status = await agent.until(
        lambda status: any(one["name"] == model and one["state"] == "ready" for one in status["models"]), 120
    )
    return str(status["doors"]["api"])


@asynccontextmanager
async def _bare_echo(folder: Path, rate: float) -> AsyncIterator[Target]:
    argv = [
        sys.executable,
        "-m",
        "llm.engines.echo",
        "--port",
        str(port := _free_port()),
        "--tokens-per-s",
        f"{rate:g}",
    ]
    async with _serving(argv, {}, folder / "echo.log", Target("engine", f"http://127.0.0.1:{port}", ECHO)) as target:
        yield target


@asynccontextmanager
async def _bare_llama_server(folder: Path) -> AsyncIterator[Target]:
    binary = find_llama_server()
    options = LlamaServerOptions(
        model=TOY,
        name=TOY.stem,
        log=folder / "llama.log",
        context_tokens=TOY_CONTEXT_TOKENS,
        slots=SLOTS,
        threads=1,
    )
    argv = arguments(binary, options)
    argv[argv.index("--port") + 1] = str(port := _free_port())
    key = secrets.token_urlsafe(16)
    env = {"LLAMA_API_KEY": key, "LD_LIBRARY_PATH": str(binary.library_dir or "")}
    target = Target("engine", f"http://127.0.0.1:{port}", TOY.stem, key)
    async with _serving(argv, env, folder / "bare-llama.log", target) as serving:
        yield serving


@asynccontextmanager
async def _serving(argv: list[str], env: Mapping[str, str], log: Path, target: Target) -> AsyncIterator[Target]:
    async with ProcessLauncher(os.environ).start(argv, env, log):
        for _ in range(600):
            if await _answers(target):
                break
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError(f"{argv[0]} did not answer within a minute; see {log}")
        yield target


async def _answers(target: Target) -> bool:
    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    with contextlib.suppress(aiohttp.ClientError):
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{target.url}/v1/models") as response,
        ):
            return response.status == 200
    return False


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
