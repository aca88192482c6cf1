"""Models load when they are asked for, make room for each other, leave when idle; files come from another node."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.llama_binary import find_llama_server
from llm.gguf import read_header
from llm.split.layout import GB
from meshd.local_agents import LocalAgent
from meshd.model_needs import needs_of
from tools.scenarios.stage import ANSWER_S, PATIENCE_S, Answer, Stage, api_of, ask, entry

CONTEXT_TOKENS = 512
SLOW_START_S = 4
IDLE_S = 4.0
ENGINE = ("--ctx", str(CONTEXT_TOKENS), "--parallel", "1", "--threads", "1")


async def run(stage: Stage) -> None:
    files = [
        stage.model(name, width=256, layers=4, context_tokens=CONTEXT_TOKENS, seed=len(name))
        for name in ("red", "blue")
    ]
    need_gb = _need_bytes(files[0]) / GB
    limit = 1.5 * need_gb
    stage.show(f"each of two models needs {need_gb:.3f} GB, the node offers {limit:.3f}; its engine starts slowly")
    engine = _slow_engine(stage.folder / "engine")
    lazy = [word for file in files for word in ("--lazy", str(file))]
    options = (*ENGINE, *lazy, "--engine", str(engine), "--idle-ttl", str(IDLE_S), "--vram-limit", f"{limit:.6f}")

    stage.step("a node starts with both models lazy")
    async with stage.agents.start("node", options) as node:
        await node.until(lambda status: len(status["models"]) == 2, PATIENCE_S)
        stage.check("no model is in memory", not _engines(node), _engines(node))
        await _loads_when_asked(stage, node)
        await _race(stage, node)
        await _idle(stage, node)
        await _pinned(stage, node)

        stage.step("another node joins, has no model, and loads 'red'")
        joining = (*ENGINE, "--vram-limit", f"{limit:.6f}", "--join", await node.token("member"))
        async with stage.agents.start("other", joining) as other:
            await _from_the_other(stage, node, other)


async def _loads_when_asked(stage: Stage, node: LocalAgent) -> None:
    stage.step("a streaming client asks for 'red'")
    comments, text = await _stream(node, "red")
    for line in dict.fromkeys(comments):
        stage.show(line)
    stage.check(
        "it was told what it waits for, in comments of the stream", any("red" in one for one in comments), comments
    )
    stage.check("and then answered", bool(text), text)
    held = await _model(node, "red")
    stage.check("the ledger holds its memory", held["held_bytes"] > 0, held)


async def _race(stage: Stage, node: LocalAgent) -> None:
    stage.step("both are asked for at the same time, twice")
    async with _watched(node) as seen:
        for _ in range(2):
            answers = await asyncio.gather(*(ask(node, name, "Once", tokens=4) for name in ("red", "blue")))
            stage.check("both answered", all(one.status == 200 for one in answers), answers)
    stage.show(
        f"{seen.looks} looks at the node's processes: at most {seen.most} engine at a time, {seen.engines} in all"
    )
    stage.check("never were both in memory", seen.most == 1, seen)
    stage.check("each made room for the other", len(seen.engines) >= 2, seen)


async def _idle(stage: Stage, node: LocalAgent) -> None:
    stage.step(f"nobody asks for {IDLE_S:.0f} s")
    async with asyncio.timeout(PATIENCE_S):
        while _engines(node):  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.1)
    listed = (await node.call("models"))["models"]
    stage.check("both have left memory", not any(one["held_bytes"] for one in listed), listed)
    stage.show(listed[0]["reason"])


async def _pinned(stage: Stage, node: LocalAgent) -> None:
    stage.step("'red' is pinned")
    await node.call("model_load", name="red", policy="pinned")
    await node.until(lambda status: entry(status, "red")["state"] == "ready", PATIENCE_S)
    pinned = _engines(node)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(node, "blue", "Once", tokens=4))
        await node.until(lambda status: entry(status, "blue")["state"] == "waiting", PATIENCE_S)
        refused = await ask(node, "blue", "Once", tokens=4)
        stage.show(refused.error)
        stage.check("'blue' is refused with the arithmetic", refused.status == 503 and "GB" in refused.error, refused)
        stage.check("and told when to come again", "Retry-After" in refused.headers, refused.headers)
        await asyncio.sleep(IDLE_S + 1)
        stage.check("'red' stays, however long nobody asks for it", _engines(node) == pinned, _engines(node))
        await node.call("model_load", name="red", policy="lazy")
        answer: Answer = await waiting
    stage.check("unpinned it makes room, and who waited is answered", answer.status == 200, answer)


async def _from_the_other(stage: Stage, node: LocalAgent, other: LocalAgent) -> None:
    await other.until(lambda status: entry(status, "red")["state"] != "unknown", PATIENCE_S)
    began = time.monotonic()
    command = (sys.executable, "-m", "meshd", "models", "load", "red", "--data-dir", str(other.directory), "--json")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_S):
        told, _ = await process.communicate()
    stage.check("meshd models load red: done", process.returncode == 0, told)
    loaded = json.loads(told)
    stage.show(
        f"{loaded['size_bytes'] / 1e6:.1f} MB came from 'node' and are served {time.monotonic() - began:.1f} s later"
    )
    stage.check("both nodes have it now", sorted(loaded["hosts"]) == ["node", "other"], loaded)


# The node seen from outside


@dataclass
class Seen:
    """most: engines at one time.  engines: all that there were."""

    looks: int = 0
    most: int = 0
    engines: set[int] = field(default_factory=set)


@asynccontextmanager
async def _watched(node: LocalAgent) -> AsyncIterator[Seen]:
    """Look at the node's processes all the time."""
    seen = Seen()

    async def watch() -> None:
        while True:
            now = _engines(node)
            seen.looks += 1
            seen.most = max(seen.most, len(now))
            seen.engines.update(now)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        yield seen
        watching.cancel()


def _engines(node: LocalAgent) -> tuple[int, ...]:
    """The llama-servers that it runs now."""
    parents: dict[int, int] = {}
    for child in psutil.Process(node.child.pid).children(recursive=True):
        try:
            if child.name() == "llama-server" and child.status() != psutil.STATUS_ZOMBIE:
                parents[child.pid] = child.ppid()
        except psutil.NoSuchProcess:
            continue
    # The slow engine's shell, too, forks its `sleep` under its own name.
    return tuple(pid for pid, parent in parents.items() if parent not in parents)


async def _model(node: LocalAgent, name: str) -> dict[str, Any]:
    listed = (await node.call("models"))["models"]
    return dict(next(one for one in listed if one["name"] == name))


async def _stream(node: LocalAgent, model: str) -> tuple[list[str], str]:
    """The comments and the text of a streamed answer."""
    body = {"model": model, "prompt": "Once", "max_tokens": 4, "stream": True}
    comments, text = [], ""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    url = f"{await api_of(node)}/v1/completions"
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=body) as response:
        async for line in response.content:
            words = line.decode().strip()
            if words.startswith(":"):
                comments.append(words)
            elif words.startswith("data: {"):
                text += json.loads(words[6:])["choices"][0]["text"]
    return comments, text


def _need_bytes(path: Path) -> int:
    options = LlamaServerOptions(path, path.stem, path, context_tokens=CONTEXT_TOKENS, slots=1)
    return needs_of(read_header(path), options, in_ram=True)(())[0]


def _slow_engine(folder: Path) -> Path:
    """The usual engine, which takes a few seconds to start, as with a large model."""
    real = find_llama_server()
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "ggml-rpc-server").symlink_to(real.path.with_name("ggml-rpc-server"))
    if real.library_dir is not None:
        (folder / "lib").symlink_to(real.library_dir)
    engine = programs / "llama-server"
    engine.write_text(f'#!/bin/sh\nsleep {SLOW_START_S}\nexec "{real.path}" "$@"\n')
    engine.chmod(0o755)
    return engine
