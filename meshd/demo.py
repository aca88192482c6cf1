"""A mesh of real agents on this machine, and one chat through its lite client.

Every agent is a process of its own with a data directory of its own, below one temporary folder; they
die with the demo. Nothing of it touches the user's own mesh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from llm.engines.interface import Child
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.launcher import ProcessLauncher

START_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 180.0
CHAT_TIMEOUT_S = 60.0
POLL_S = 0.05
QUESTION = "What is meshd?"

Say = Callable[[str], None]


class DemoFailed(Exception):
    """The demo could not show what it should; the message says why and where the logs are."""


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One agent of the demo: its process and its control door."""

    name: str
    child: Child
    control: ControlClient
    log: Path

    async def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a control command without blocking the loop."""
        return await asyncio.to_thread(self.control.call, command, **arguments)


@dataclass(frozen=True, slots=True)
class ChatResult:
    """One streamed chat. ttft_ms: request sent → first text; tokens_per_s: over the tokens after the first."""

    answer: str
    node: str
    mode: str
    ttft_ms: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class DemoMesh:
    """The running demo: the host first, members between, the lite client last."""

    nodes: tuple[DemoNode, ...]
    model: str
    api: str

    @property
    def client(self) -> DemoNode:
        return self.nodes[-1]


@contextlib.asynccontextmanager
async def demo_mesh(model: Path, node_count: int, say: Say) -> AsyncIterator[DemoMesh]:
    """Start `node_count` (≥ 2) agents: a host with `model`, members, and a lite client; stop them on leaving."""
    with tempfile.TemporaryDirectory(prefix="meshd-demo-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            starter = _Starter(Path(folder), stack, ProcessLauncher())
            say(f"starting the host, which loads {model.name} on llama-server")
            host = await starter.start("host", ["--model", str(model), "--threads", "1"])
            members = [await starter.join(host, f"member-{n + 1}", "member", say) for n in range(node_count - 2)]
            client = await starter.join(host, "laptop", "client", say)
            api = await _wait_for_model(host, client, model.stem, say)
            yield DemoMesh((host, *members, client), model.stem, api)


@dataclass(frozen=True, slots=True)
class _Starter:
    folder: Path
    stack: contextlib.AsyncExitStack
    launcher: ProcessLauncher

    async def start(self, name: str, arguments: list[str]) -> DemoNode:
        directory = self.folder / name
        log = self.folder / f"{name}.log"
        argv = [sys.executable, "-m", "meshd", "--name", name, "--data-dir", str(directory)]
        argv += ["--port", "0", "--bind", "127.0.0.1:0", *arguments]
        child = await self.stack.enter_async_context(self.launcher.start(argv, {}, log))
        node = DemoNode(name, child, ControlClient(directory / "control.sock"), log)
        await _until_it_answers(node)
        return node

    async def join(self, host: DemoNode, name: str, role: str, say: Say) -> DemoNode:
        say(f"starting {name}, which joins with a {role} token")
        token = (await host.call("token_create", role=role, ttl_s=600, uses=1))["token"]
        return await self.start(name, ["--join", token, *(["--client"] if role == "client" else [])])


async def _until_it_answers(node: DemoNode) -> None:
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(node.child.wait(), name=f"{node.name} ended")
        answers = await _answers(node, ended, time.monotonic() + START_TIMEOUT_S)
        why = f"ended with status {ended.result()}" if ended.done() else f"did not start within {START_TIMEOUT_S:.0f} s"
        ended.cancel()
    if not answers:
        raise DemoFailed(f"{node.name} {why}:\n{_last_lines(node.log)}")


async def _answers(node: DemoNode, ended: asyncio.Task[int], deadline: float) -> bool:
    while time.monotonic() < deadline and not ended.done():
        with contextlib.suppress(NotRunning):
            await node.call("status")
            return True
        await asyncio.wait({ended}, timeout=POLL_S)
    return False


def _last_lines(log: Path, count: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return "(no log)"


async def _wait_for_model(host: DemoNode, client: DemoNode, model: str, say: Say) -> str:
    said = ""
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while time.monotonic() < deadline:
        status = await client.call("status")
        if any(entry["name"] == model and entry["state"] == "ready" for entry in status["models"]):
            return str(status["doors"]["api"])
        progress = _loading_line(await host.call("status"), model)
        if progress != said:
            said = progress
            say(progress)
        await asyncio.sleep(POLL_S)
    raise DemoFailed(f"{model} was not ready within {LOAD_TIMEOUT_S:.0f} s:\n{_last_lines(host.log)}")


def _loading_line(status: dict[str, Any], model: str) -> str:
    entry = next((entry for entry in status["models"] if entry["name"] == model), None)
    return f"{model}: {entry['state']} {entry['reason']}".strip() if entry else f"{model}: not seen yet"


async def ask(mesh: DemoMesh, question: str, on_text: Say) -> ChatResult:
    """Stream one greedy chat through the lite client's own API; `on_text` gets each piece."""
    body = {
        "model": mesh.model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 120,
    }
    pieces: list[str] = []
    times: list[float] = []
    sent = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=CHAT_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{mesh.api}/v1/chat/completions", json=body) as response,
        ):
            if response.status != 200:
                raise DemoFailed(f"the API answered {response.status}: {(await response.text())[:500]}")
            async for text in _texts(response):
                times.append(time.monotonic())
                pieces.append(text)
                on_text(text)
            node, mode = response.headers["x-meshd-node"], response.headers["x-meshd-mode"]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DemoFailed(f"the chat broke off: {error or type(error).__name__}") from error
    if len(times) < 2:
        raise DemoFailed(f"the answer was too short to measure: {''.join(pieces)!r}")
    rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
    return ChatResult("".join(pieces).strip(), node, mode, 1000 * (times[0] - sent), rate)


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


async def overview(mesh: DemoMesh) -> list[dict[str, Any]]:
    """Every node's own account: name, role, id, API, and how many peers it sees."""
    rows = []
    for node in mesh.nodes:
        with contextlib.suppress(NotRunning, CommandFailed):
            status = await node.call("status")
            rows.append(
                {
                    **status["node"],
                    "pid": node.child.pid,
                    "api": status["doors"]["api"],
                    "host": status["host"],
                    "peers": [peer["name"] for peer in status["peers"]],
                }
            )
    return rows
