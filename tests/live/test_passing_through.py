"""What a bare llama-server of the same build answers, the mesh answers: byte for byte, but for ids and times.

The same recorded requests go to three places: a llama-server started by hand, the agent that serves the model, and
a lite client one hop away.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from gguf import PoolingType

from llm.engines import child_log
from llm.engines.llama_arguments import LlamaServerOptions, arguments
from llm.engines.llama_binary import find_llama_server
from llm.engines.llama_server import LISTENING
from llm.gguf import read_header
from llm.purpose import find_projector, purpose_arguments
from meshd.launcher import ProcessLauncher
from meshd.local_agents import LocalAgent, local_agents
from tests.live.recorded_requests import RECORDED, Recorded
from tests.live.toy import LOAD_TIMEOUT_S, TOY, sees_ready
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.llm.tiny_projector import write_tiny_projector

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT_TOKENS = 512
SLOTS = 2

# `"id":"chatcmpl-x"` → `"id":""`, `"created":1` → `"created":0`: what is said of one run only. The values alone are
# blotted out; which fields there are, in which order and how they are written has to agree.
IDS = re.compile(rb'("(?:id|item_id|call_id|response_id|previous_response_id|media_marker)":\s*"|"id_slot":\s*)[^",}]*')
TIMES = re.compile(rb'("(?:created|created_at|completed_at|t_[a-z_]+|[a-z_]+_ms|[a-z_]+_per_second)":\s*)-?[0-9.e+-]+')
OF_THE_HOP = {"date", "connection", "keep-alive", "transfer-encoding", "content-length", "server"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, without what is said of one run only."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Places:
    """Where the models are served. bare: base URL and key by model name."""

    models: dict[str, Path]
    bare: dict[str, tuple[str, str]]
    local: str
    hop: str


def model_files(folder: Path) -> dict[str, Path]:
    """One file for each model of the suite."""
    seeing = folder / "seeing"
    seeing.mkdir()
    write_tiny_projector(seeing / "mmproj-tiny.gguf")
    return {
        "seeing": write_tiny_gguf(seeing / "seeing.gguf"),
        "toy": Path(shutil.copy(TOY, folder / "toy.gguf")),
        "embed": write_tiny_gguf(folder / "embed.gguf", pooling=PoolingType.MEAN),
        "rerank": write_tiny_gguf(folder / "rerank.gguf", pooling=PoolingType.RANK),
    }


async def bare_server(stack: AsyncExitStack, model: Path, key: str) -> str:
    """Start a llama-server as the agent would; its base URL."""
    binary, log = find_llama_server(), model.with_suffix(".log")
    options = LlamaServerOptions(
        model=model,
        name=model.stem,
        log=log,
        context_tokens=CONTEXT_TOKENS,
        slots=SLOTS,
        threads=1,
        more_arguments=purpose_arguments(read_header(model), find_projector(model)),
    )
    env = {"LLAMA_API_KEY": key, "LD_LIBRARY_PATH": str(binary.library_dir or "")}
    await stack.enter_async_context(ProcessLauncher(os.environ).start(arguments(binary, options), env, log))
    async with aiohttp.ClientSession() as session:
        async with aiohttp_deadline():
            while True:
                if found := LISTENING.search(child_log.read_from(log, 0)):
                    base = f"http://127.0.0.1:{found[1]}"
                    async with session.get(f"{base}/health") as response:
                        if response.status == 200:
                            return base
                await asyncio.sleep(0.05)


def aiohttp_deadline() -> asyncio.Timeout:
    return asyncio.timeout(LOAD_TIMEOUT_S)


async def door(agent: LocalAgent, models: dict[str, Path]) -> str:
    status = await agent.until(lambda status: all(sees_ready(status, name) for name in models), LOAD_TIMEOUT_S)
    return str(status["doors"]["api"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    folder = tmp_path_factory.mktemp("passing")
    models = model_files(folder)
    agents = local_agents(folder)
    serves = [word for path in models.values() for word in ("--model", str(path))]
    serves += ["--ctx", str(CONTEXT_TOKENS), "--parallel", str(SLOTS), "--threads", "1"]
    async with AsyncExitStack() as stack:
        keys = {name: secrets.token_urlsafe(16) for name in models}
        bare = {name: (await bare_server(stack, path, keys[name]), keys[name]) for name, path in models.items()}
        host = await stack.enter_async_context(agents.start("host", serves))
        joins = ["--client", "--join", await host.token("client")]
        client = await stack.enter_async_context(agents.start("client", joins))
        yield Places(models, bare, await door(host, models), await door(client, models))


async def send(base: str, recorded: Recorded, name: str, key: str = "") -> Answer:
    url = base + recorded.path
    if recorded.body is None:
        url += "?" + urlencode({"model": name})
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    async with aiohttp.ClientSession(headers=headers) as session, aiohttp_deadline():
        async with session.request(recorded.method, url, data=recorded.sent(name)) as response:
            body = await response.read()
            return Answer(response.status, end_to_end(response), TIMES.sub(rb"\g<1>0", IDS.sub(rb"\g<1>", body)))


def end_to_end(response: aiohttp.ClientResponse) -> tuple[tuple[str, str], ...]:
    """The headers that are the server's own."""
    named = {(name.lower(), value) for name, value in response.headers.items()}
    ours = ("x-meshd-", "x-request-id", "access-control-")
    return tuple(sorted((name, value) for name, value in named if name not in OF_THE_HOP and not name.startswith(ours)))


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
async def test_answers_as_a_bare_server_does(places: Places, recorded: Recorded) -> None:
    name = places.models[recorded.model].stem
    base, key = places.bare[recorded.model]
    for place in (base, places.local):  # so that the caches, which some answers count, have seen the same
        await send(place, recorded, name, key)
    bare = await send(base, recorded, name, key)
    assert bare.status == recorded.status, bare.body
    assert await send(places.local, recorded, name) == bare
    assert await send(places.hop, recorded, name) == bare
