"""A mesh of real agents on this machine, and one chat and one form call through its lite client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from forms.request import replied
from llm.engines.llama_binary import EngineMissing, find_llama_server
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import AgentFailed, LocalAgent, last_lines, local_agents
from transport.impairment import Conditions

LOAD_TIMEOUT_S = 180.0
CHAT_TIMEOUT_S = 60.0
POLL_S = 0.05
CALL_TIMEOUT_S = 60.0
QUESTION = "What is meshd?"
CALL = '(cuda-shake-fanout \'("6d6573686400" "62656e64") 32)'

Say = Callable[[str], None]


class DemoFailed(Exception):
    """The demo could not show what it should; the message says why."""


@dataclass(frozen=True, slots=True)
class ChatResult:
    """One streamed chat. ttft_ms: request sent → first text; tokens_per_s: over the tokens after the first."""

    answer: str
    node: str
    mode: str
    ttft_ms: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class CallResult:
    """One form call. node: where it ran.  ms: as the asker saw it."""

    call: str
    reply: str
    node: str
    backend: str
    ms: float


@dataclass(frozen=True, slots=True)
class DemoMesh:
    """The running demo: the host first, members between, the lite client last. ways: between them, if bad ones."""

    nodes: tuple[LocalAgent, ...]
    model: str
    api: str
    ways: ImpairedAgents | None

    @property
    def client(self) -> LocalAgent:
        return self.nodes[-1]


def engine_named_in(environment: Mapping[str, str]) -> dict[str, str]:
    """What the demo's agents inherit of the settings around it: where the engine is, as in our images. Pure."""
    return {name: environment[name] for name in ("MESHD_ENGINE",) if name in environment}


def _check_engine(environment: Mapping[str, str]) -> None:
    named = environment.get("MESHD_ENGINE")
    try:
        find_llama_server(Path(named) if named else None)
    except EngineMissing as error:
        raise DemoFailed(str(error)) from error


@contextlib.asynccontextmanager
async def demo_mesh(
    model: Path, node_count: int, say: Say, conditions: Conditions | None = None
) -> AsyncIterator[DemoMesh]:
    """Start `node_count` (≥ 2) agents: a host with `model`, members, and a lite client; stop them on leaving.

    conditions: of the ways between them, in each direction. Raises DemoFailed, without an engine before it starts any.
    """
    _check_engine(engine_named_in(os.environ))
    with tempfile.TemporaryDirectory(prefix="meshd-demo-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            direct = replace(local_agents(Path(folder)), environment=engine_named_in(os.environ))
            ways = ImpairedAgents(direct, conditions) if conditions else None
            agents = ways or direct
            say(f"starting the host, which loads {model.name} on llama-server")
            nodes = [await _entered(stack, agents.start("host", ["--model", str(model), "--threads", "1"]))]
            for name, role in _guests(node_count):
                say(f"starting {name}, which joins with a {role} token")
                arguments = ["--join", await nodes[0].token(role), *(["--client"] if role == "client" else [])]
                nodes.append(await _entered(stack, agents.start(name, arguments)))
            api = await _wait_for_model(nodes[0], nodes[-1], model.stem, say)
            yield DemoMesh(tuple(nodes), model.stem, api, ways)


async def _entered(
    stack: contextlib.AsyncExitStack, agent: contextlib.AbstractAsyncContextManager[LocalAgent]
) -> LocalAgent:
    try:
        return await stack.enter_async_context(agent)
    except AgentFailed as error:
        raise DemoFailed(str(error)) from error


def _guests(node_count: int) -> list[tuple[str, str]]:
    members = [(f"member-{number + 1}", "member") for number in range(node_count - 2)]
    return [*members, ("laptop", "client")]


async def _wait_for_model(host: LocalAgent, client: LocalAgent, model: str, say: Say) -> str:
    said = ""
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while time.monotonic() < deadline:
        status = await client.status()
        if any(entry["name"] == model and entry["state"] == "ready" for entry in status["models"]):
            return str(status["doors"]["api"])
        progress = _loading_line(await host.status(), model)
        if progress != said:
            said = progress
            say(progress)
        await asyncio.sleep(POLL_S)
    raise DemoFailed(f"{model} was not ready within {LOAD_TIMEOUT_S:.0f} s:\n{last_lines(host.log)}")


def _loading_line(status: dict[str, Any], model: str) -> str:
    entry = next((entry for entry in status["models"] if entry["name"] == model), None)
    return f"{model}: {entry['state']} {entry['reason']}".strip() if entry else f"{model}: not seen yet"


async def ask(mesh: DemoMesh, question: str, on_text: Say) -> ChatResult:
    """Stream one greedy chat through the lite client's own API; `on_text` gets each piece. Raises DemoFailed."""
    pieces: list[str] = []
    times: list[float] = []
    sent = time.monotonic()
    try:
        async with _posted(mesh, question) as response:
            if response.status != 200:
                raise DemoFailed(f"the API answered {response.status}: {(await response.text())[:500]}")
            node, mode = response.headers["x-meshd-node"], response.headers["x-meshd-mode"]
            async for text in _texts(response):
                times.append(time.monotonic())
                pieces.append(text)
                on_text(text)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DemoFailed(f"the chat broke off: {error or type(error).__name__}") from error
    if len(times) < 2:
        raise DemoFailed(f"the answer was too short to measure: {''.join(pieces)!r}")
    rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
    return ChatResult("".join(pieces).strip(), node, mode, 1000 * (times[0] - sent), rate)


@contextlib.asynccontextmanager
async def _posted(mesh: DemoMesh, question: str) -> AsyncIterator[aiohttp.ClientResponse]:
    body = {
        "model": mesh.model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 120,
    }
    timeout = aiohttp.ClientTimeout(total=CHAT_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{mesh.api}/v1/chat/completions", json=body) as response,
    ):
        yield response


async def _texts(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in response.content:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        event = json.loads(line[len(b"data: ") :])
        if "error" in event:
            raise DemoFailed(f"the answer ended in an error: {event['error']['message']}")
        for choice in event.get("choices", ()):
            if text := choice["delta"].get("content"):
                yield text


async def bend(mesh: DemoMesh, call: str) -> CallResult:
    """Have the lite client send a form call to the host, as `meshd call --on host` does. Raises DemoFailed."""
    client = ControlClient(mesh.client.directory / "control.sock", CALL_TIMEOUT_S)
    sent = time.monotonic()
    try:
        reply, told = await asyncio.to_thread(client.post, "form_call", call.encode(), on=mesh.nodes[0].name)
    except (NotRunning, CommandFailed) as error:
        raise DemoFailed(f"the form call failed: {error}") from error
    ms = 1000 * (time.monotonic() - sent)
    if not replied(reply):
        raise DemoFailed(f"the form call failed: {reply.decode('utf-8', 'replace').strip()}")
    return CallResult(call, reply.decode().strip(), told["x-meshd-node"], told["x-meshd-backend"], ms)


async def overview(mesh: DemoMesh) -> list[dict[str, Any]]:
    """Every node's own account: id, name, role, whether it hosts, its API, and the peers it sees."""
    rows = []
    for node in mesh.nodes:
        with contextlib.suppress(NotRunning, CommandFailed):
            status = await node.status()
            peers = [peer["name"] for peer in status["peers"]]
            rows.append({**status["node"], "host": status["host"], "api": status["doors"]["api"], "peers": peers})
    return rows
