"""A split loses a worker, its leader, or only its link: what runs gets its end, and what can go on does."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy
import psutil
import pytest

from gossip.lease_message import LEASE_S
from llm.engines.llama_arguments import LlamaServerOptions
from llm.gguf import read_header
from llm.split.layout import GB
from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgent, LocalAgents
from meshd.model_needs import needs_of
from tests.live.toy import HOUR, LONG_ANSWER, MODEL, SERVES_TOY, chat, engine_process
from tests.llm.tiny_gguf import write_tiny_gguf
from tools.scenarios.stage import api_of, ask, entry, until_served
from transport.impairment import CLEAR

pytestmark = pytest.mark.timeout(400)

SCHEDULING_S = 30.0
"""Allowed on top of a promise, because the machine is shared."""
CUT_S = 5.0
LEADS = (*SERVES_TOY, "--split", "--vram-limit", "2")
WORKS = ("--vram-limit", "1", "--threads", "1")


def rpc_servers(agent: LocalAgent) -> list[psutil.Process]:
    """The RPC servers that this agent runs."""
    children = psutil.Process(agent.child.pid).children(recursive=True)
    return [child for child in children if child.name() == "ggml-rpc-server"]


def rpc_server(agent: LocalAgent) -> psutil.Process:
    """The only one."""
    (process,) = rpc_servers(agent)
    return process


@asynccontextmanager
async def long_answer(agent: LocalAgent) -> AsyncIterator[aiohttp.ClientResponse]:
    """A streamed answer that has begun and does not end by itself."""
    async with aiohttp.ClientSession(timeout=HOUR) as session:
        url = f"{await api_of(agent)}/v1/chat/completions"
        async with session.post(url, json=chat("Tell", **LONG_ANSWER)) as response:
            await next_event(response)
            yield response


async def next_event(response: aiohttp.ClientResponse) -> bytes:
    async for line in response.content:
        if line.startswith(b"data: "):
            return line
    raise AssertionError("the stream has ended")


async def gone(process: psutil.Process, within_s: float) -> None:
    ended, _ = await asyncio.to_thread(psutil.wait_procs, [process], within_s)
    assert ended, f"{process} still runs after {within_s} s"


async def test_a_killed_worker_ends_streams_with_an_error_and_the_split_comes_back(agents: LocalAgents) -> None:
    async with agents.start("leader", LEADS) as leader:
        token = await leader.token("member")
        async with agents.start("worker", [*WORKS, "--join", token]) as worker:
            await until_served(leader, MODEL, "split")
            async with long_answer(leader) as response:
                psutil.Process(worker.child.pid).send_signal(signal.SIGKILL)
                killed = time.monotonic()
                lines = [line async for line in response.content if line.strip()]
            assert time.monotonic() - killed < LEASE_S + SCHEDULING_S
            error = json.loads(lines[-1].removeprefix(b"data: "))["error"]
            assert error["message"] and error["request_id"]

            await until_served(leader, MODEL, "solo")
            assert (await ask(leader, MODEL, "What is meshd?")).status == 200

        # Killed so soon, it may not have written down where others are; the token says it again.
        async with agents.start("worker", [*WORKS, "--join", token]):
            await until_served(leader, MODEL, "split")
            assert (await ask(leader, MODEL, "What is meshd?")).headers["x-meshd-mode"] == "split"


async def test_a_leader_that_stops_or_dies_keeps_its_worker_for_the_lease_only(agents: LocalAgents) -> None:
    async with agents.start("leader", LEADS) as leader:
        async with agents.start("worker", [*WORKS, "--join", await leader.token("member")]) as worker:
            await until_served(leader, MODEL, "split")
            first, process = rpc_server(worker), psutil.Process(leader.child.pid)
            process.suspend()
            await gone(first, LEASE_S + SCHEDULING_S)
            process.resume()
            await leader.until(lambda status: bool(rpc_servers(worker)), 60)
            await until_served(leader, MODEL, "split")
            assert (await ask(leader, MODEL, "What is meshd?")).status == 200

            second = rpc_server(worker)
            process.kill()
            await asyncio.sleep(1)
            assert second.is_running()
            await gone(second, LEASE_S + SCHEDULING_S)


async def test_a_link_that_is_away_for_seconds_only_pauses_the_answer(agents: LocalAgents) -> None:
    impaired = ImpairedAgents(agents, CLEAR)
    async with (
        impaired.start("leader", LEADS) as leader,
        impaired.start("worker", [*WORKS, "--join", await leader.token("member")]) as worker,
    ):
        await until_served(leader, MODEL, "split")
        engine, server = engine_process(leader).pid, rpc_server(worker).pid
        async with long_answer(leader) as response:
            for relay in impaired.relays:
                relay.cut()
            await asyncio.sleep(CUT_S)
            for relay in impaired.relays:
                relay.mend()
            async with asyncio.timeout(60):
                for _ in range(200):
                    event = json.loads((await next_event(response)).removeprefix(b"data: "))
                    assert "error" not in event
        assert (engine_process(leader).pid, rpc_server(worker).pid) == (engine, server)


async def test_another_node_that_has_the_model_leads_when_the_leader_dies(agents: LocalAgents, tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "big.gguf", width=1024, layers=8, context_tokens=512, matrix_type=numpy.float16)
    engine = LlamaServerOptions(model, "big", model, context_tokens=512, slots=1)
    half_gb = max(needs_of(read_header(model), engine, in_ram=True)((0.5, 0.5))) / GB
    limit = ("--threads", "1", "--vram-limit", f"{1.2 * half_gb:.6f}")
    serves = (*limit, "--model", str(model), "--ctx", "512", "--parallel", "1")
    async with agents.start("one", serves) as one:
        joining = ("--join", await one.token("member", uses=2))
        async with agents.start("two", [*serves, *joining]) as two, agents.start("three", [*limit, *joining]) as three:
            led_by = (await until_served(three, "big", "split"))["host"]
            leader, successor = (one, two) if led_by == "one" else (two, one)
            psutil.Process(leader.child.pid).kill()

            def has_followed(status: dict[str, Any]) -> bool:
                found = entry(status, "big")
                return (found["mode"], found["state"], found["host"]) == ("split", "ready", successor.name)

            await three.until(has_followed, 90)
            answer = await ask(three, "big", "Tell me", tokens=4)

    assert (answer.status, answer.headers["x-meshd-node"]) == (200, successor.name)
