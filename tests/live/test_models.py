"""Models come to a running agent and leave it: files, the hub's, other nodes'; none is forgotten at a restart."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from meshd.control import CommandFailed
from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.toy import LOAD_TIMEOUT_S, LONG_ANSWER, engine_process
from tests.llm.fake_hub import COMMIT, FakeHub, fake_hub
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.llm.tiny_projector import write_tiny_projector

ENGINE = ("--threads", "1", "--ctx", "512", "--parallel", "1")


def entry(listed: dict[str, Any], name: str) -> dict[str, Any]:
    """What the list says of the model here; of its download where there is none."""
    here = [one for one in listed["models"] if one["here"] and one["name"] == name]
    coming = [one for one in listed["downloads"] if name in (one["name"], one["wanted"])]
    return next(iter(here + coming), {"state": "unknown", "reason": ""})


async def until(agent: LocalAgent, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait for an entry of that model for which `holds`."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            while not holds(found := entry(await agent.call("models"), name)):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{name}: {found}") from None
    return found


async def until_state(agent: LocalAgent, name: str, state: str) -> dict[str, Any]:
    return await until(agent, name, lambda found: found["state"] == state)


async def run_models(agent: LocalAgent, *arguments: str) -> tuple[int, str, str]:
    """`meshd models …` as a person types it: exit status, stdout, stderr."""
    command = (sys.executable, "-m", "meshd", "models", *arguments, "--data-dir", str(agent.directory))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(LOAD_TIMEOUT_S):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_file_is_loaded_unloaded_kept_over_a_restart_and_removed(agents: LocalAgents, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "small.gguf")
    async with agents.start("a", ENGINE) as agent:
        code, out, err = await run_models(agent, "load", str(file), "--json")
        assert (code, json.loads(out)["state"]) == (0, "ready"), err
        assert json.loads(out)["held_bytes"] > 0
        assert (await run_models(agent, "rm", "small", "--yes"))[0] == 1
        code, _, err = await run_models(agent, "unload", "small")
        assert code == 0, err
        assert (await until_state(agent, "small", "unloaded"))["held_bytes"] == 0
    async with agents.start("a", ENGINE) as agent:
        assert (await until_state(agent, "small", "unloaded"))["policy"] == "lazy"
        code, out, err = await run_models(agent, "load", "small", "--pin")
        assert (code, out) == (0, "small: ready; serving small.gguf on 1 slots\n"), err
    async with agents.start("a", ENGINE) as agent:
        assert (await until_state(agent, "small", "ready"))["policy"] == "pinned"
        await agent.call("model_unload", name="small")
        code, _, err = await run_models(agent, "rm", "small", "--yes")
        assert code == 0, err
        assert file.exists()
        assert entry(await agent.call("models"), "small")["state"] == "unknown"
        code, _, err = await run_models(agent, "load", "small")
        assert (code, "there is no model 'small'" in err) == (1, True), err


async def test_a_file_that_is_gone_is_shown_and_named(agents: LocalAgents, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "gone.gguf")
    async with agents.start("a", ENGINE) as agent:
        await agent.call("model_load", path=str(file), policy="lazy")
    file.unlink()
    async with agents.start("a", ENGINE) as agent:
        shown = await until_state(agent, "gone", "missing")
        assert str(file) in shown["reason"]
        with pytest.raises(CommandFailed, match="no such file"):
            await agent.call("model_unload", name="gone")
        write_tiny_gguf(file)
        await agent.call("model_load", path=str(file), policy="lazy")
        await until_state(agent, "gone", "unloaded")
        assert (await agent.call("model_remove", name="gone", is_sure=True))["keeps"] == [str(file)]


async def test_a_model_of_the_command_line_is_not_removed(agents: LocalAgents, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "named.gguf")
    async with agents.start("a", [*ENGINE, "--lazy", str(file)]) as agent:
        with pytest.raises(CommandFailed, match="named when meshd started"):
            await agent.call("model_remove", name="named", is_sure=True)


async def test_a_model_that_answers_is_not_unloaded(agents: LocalAgents, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "busy.gguf")
    async with agents.start("a", ["--threads", "1", "--model", str(file)]) as agent, aiohttp.ClientSession() as session:
        await until_state(agent, "busy", "ready")
        api = (await agent.status())["doors"]["api"]
        body = {"model": "busy", "prompt": "Once", **LONG_ANSWER}
        async with session.post(f"{api}/v1/completions", json=body) as response:
            await response.content.readline()
            with pytest.raises(CommandFailed, match="is answering 1 requests and cannot be unloaded now"):
                await agent.call("model_unload", name="busy")
        await until(agent, "busy", lambda found: found["state"] == "ready")
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            while True:
                try:
                    await agent.call("model_unload", name="busy")
                    break
                except CommandFailed:  # its client left a moment ago
                    await asyncio.sleep(0.1)
        assert (await until_state(agent, "busy", "unloaded"))["held_bytes"] == 0


# The hub


@asynccontextmanager
async def hub_of(
    agents: LocalAgents, tmp_path: Path, **repos: dict[str, bytes]
) -> AsyncIterator[tuple[FakeHub, LocalAgents]]:
    """A hub with those repositories, and agents that know no other."""
    with fake_hub(**repos) as hub:
        cache = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        yield hub, replace(agents, environment={"HF_ENDPOINT": hub.url, **cache})


async def test_what_was_pulled_is_offered_after_an_interruption_a_restart_and_without_the_hub(
    agents: LocalAgents, tmp_path: Path
) -> None:
    content = write_tiny_gguf(tmp_path / "m.gguf", width=256, layers=4).read_bytes()
    size = len(content)
    async with hub_of(agents, tmp_path, o__r={"m-F32.gguf": content, "m-Q8_0.gguf": b"x"}) as (hub, online):
        hub.hold(after_bytes=size * 3 // 4)
        async with online.start("a", ENGINE) as agent:
            code, _, err = await run_models(agent, "pull", "hf:o/r")
            assert (code, "2 models" in err, "F32 (" in err) == (1, True, True), err
            await agent.call("model_pull", name="hf:o/r:F32")
            await until(agent, "hf:o/r:F32", lambda found: found.get("done_bytes", 0) > size // 2)
            os.kill(agent.child.pid, signal.SIGKILL)
        hub.go_on()
        before = hub.sent_bytes
        async with online.start("a", ENGINE) as agent:
            shown = await until_state(agent, "m-F32", "unloaded")
            assert (shown["size_bytes"], shown["wanted"]) == (size, "hf:o/r:F32")
            assert hub.sent_bytes - before < size * 0.6
    async with replace(agents, environment={"HF_ENDPOINT": "http://127.0.0.1:9"}).start("a", ENGINE) as agent:
        code, out, err = await run_models(agent, "load", "hf:o/r:F32", "--json")
        assert (code, json.loads(out)["state"]) == (0, "ready"), err
        await agent.call("model_unload", name="m-F32")
        code, _, err = await run_models(agent, "rm", "m-F32")
        assert (code, "this deletes 0.01 GB" in err, (await until_state(agent, "m-F32", "unloaded"))["here"]) == (
            1,
            True,
            True,
        )
        code, _, err = await run_models(agent, "rm", "m-F32", "--yes")
        assert code == 0, err
        assert not list((tmp_path / "a" / "models").rglob("*.gguf"))
        code, _, err = await run_models(agent, "pull", "hf:o/r:F32")
        assert (code, "cannot be reached" in err) == (1, True), err


async def test_the_command_line_may_name_the_hub_and_the_agent_runs_meanwhile(
    agents: LocalAgents, tmp_path: Path
) -> None:
    content = write_tiny_gguf(tmp_path / "m.gguf", width=256, layers=4).read_bytes()
    async with hub_of(agents, tmp_path, o__r={"m.gguf": content}) as (hub, online):
        hub.hold(after_bytes=len(content) // 2)
        hub.is_away = True
        async with online.start("a", [*ENGINE, "--model", "hf:o/r"]) as agent:
            waiting = await until(agent, "hf:o/r", lambda found: "503" in found["reason"])
            assert (waiting["state"], "tried again in" in waiting["reason"]) == ("waiting", True), waiting
            hub.is_away = False
            status = await agent.until(
                lambda status: any(one["done_bytes"] for one in status["downloads"]), LOAD_TIMEOUT_S
            )
            (shown,) = status["models"]
            assert (shown["name"], shown["state"], "MB" in shown["reason"]) == ("m", "loading", True), shown
            async with aiohttp.ClientSession() as session:
                question = {"model": "m", "prompt": "Once", "max_tokens": 2, "stream": True}
                async with session.post(f"{status['doors']['api']}/v1/completions", json=question) as response:
                    first = await response.content.readline()
                    assert (response.status, first.startswith(b": m: bringing: "), b"%" in first) == (200, True, True)
                    hub.go_on()
                    lines = [line async for line in response.content if line.startswith(b"data: ")]
            assert len(lines) > 1 and lines[-1] == b"data: [DONE]\n"
            assert (await until_state(agent, "m", "ready"))["policy"] == "pinned"


async def test_what_another_program_downloaded_is_used_where_it_lies_and_left_there(
    agents: LocalAgents, tmp_path: Path
) -> None:
    """As huggingface_hub lays out its cache; and without the hub."""
    content = write_tiny_gguf(tmp_path / "m.gguf").read_bytes()
    repository = tmp_path / "hf" / "hub" / "models--o--r"
    blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
    pointer = repository / "snapshots" / COMMIT / "m.gguf"
    for folder in (blob.parent, pointer.parent, repository / "refs"):
        folder.mkdir(parents=True)
    blob.write_bytes(content)
    pointer.symlink_to(Path("../../blobs") / blob.name)
    (repository / "refs" / "main").write_text(COMMIT)
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    async with replace(agents, environment=environment).start("a", ENGINE) as agent:
        code, out, err = await run_models(agent, "load", "hf:o/r", "--json")
        assert (code, json.loads(out)["name"]) == (0, "m"), err
        await agent.call("model_unload", name="m")
        assert (await agent.call("model_remove", name="hf:o/r", is_sure=True))["keeps"] == [str(pointer)]
    assert pointer.read_bytes() == content


async def test_a_download_is_called_off_and_leaves_nothing(agents: LocalAgents, tmp_path: Path) -> None:
    async with hub_of(agents, tmp_path, o__r={"m.gguf": bytes(8 << 20)}) as (hub, online):
        hub.hold(after_bytes=2 << 20)
        async with online.start("a", ENGINE) as agent:
            await agent.call("model_pull", name="hf:o/r")
            await until(agent, "hf:o/r", lambda found: found.get("done_bytes", 0) > 1 << 20)
            await agent.call("model_remove", name="hf:o/r", is_sure=True)
            assert entry(await agent.call("models"), "hf:o/r")["state"] == "cancelled"
            assert not list((tmp_path / "a" / "models" / "brought").rglob("?" * 64))


# Other nodes


async def test_a_file_comes_from_another_node_and_goes_on_after_a_kill(agents: LocalAgents, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "shared.gguf", width=1024, layers=4)
    projector = write_tiny_projector(tmp_path / "mmproj-shared.gguf", model_width=1024)
    size = file.stat().st_size
    async with agents.start("a", [*ENGINE, "--lazy", str(file)]) as source:
        await until(source, "shared", lambda found: found["state"] == "unloaded" and _is_hashed(source))
        joins = [*ENGINE, "--join", await source.token("member", uses=2)]
        client = ["--client", "--join", await source.token("client")]
        read_before = _read_bytes(source)
        async with agents.start("b", joins) as other:
            await other.until(lambda status: bool(status["models"]), LOAD_TIMEOUT_S)
            await other.call("model_load", name="shared")
            await until(other, "shared", lambda found: found.get("done_bytes", 0) > size // 4)
            os.kill(other.child.pid, signal.SIGKILL)
        partial = _arrived(tmp_path / "b")
        async with agents.start("b", joins) as other:
            await until_state(other, "shared", "unloaded")
            read = _read_bytes(source) - read_before
            rate = next(one["bytes_per_s"] for one in (await other.call("models"))["downloads"])
            print(f"{partial / 1e6:.0f} of {size / 1e6:.0f} MB were here at the kill, {read / 1e6:.0f} MB read in all")
            print(f"the rest came at {rate / 1e6:.0f} MB/s")
            code, out, err = await run_models(other, "load", "shared", "--json")
            assert (code, json.loads(out)["state"]) == (0, "ready"), err
            assert sorted(json.loads(out)["hosts"]) == ["a", "b"]
            (beside,) = (tmp_path / "b" / "models" / "brought").glob("*/mmproj*")
            assert beside.read_bytes() == projector.read_bytes()
            assert str(beside) in engine_process(other).cmdline()
            assert 0 < partial < size
            assert size <= read < size * 1.2
            async with agents.start("c", client) as laptop:
                with pytest.raises(CommandFailed, match="lite client"):
                    await laptop.call("model_load", name="shared")


def _is_hashed(agent: LocalAgent) -> bool:
    return (agent.directory / "digests.json").exists()


def _read_bytes(agent: LocalAgent) -> int:
    """What the agent has read from files."""
    return int(psutil.Process(agent.child.pid).io_counters().read_chars)


def _arrived(directory: Path) -> int:
    partial = directory / "models" / "brought" / "arriving" / "partial"
    return sum(path.stat().st_size for path in partial.iterdir())
