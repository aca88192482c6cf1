"""Processes that die half-way: no request hangs, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

import aiohttp
import psutil

from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.toy import HOUR, LONG_ANSWER, MODEL, SERVES_TOY, api_of, chat, engine_process

PROMISED_S = 5.0
SCHEDULING_S = 20.0
"""Allowed on top of a promise, because the machine is shared."""


async def first_piece(response: aiohttp.ClientResponse) -> None:
    async for line in response.content:
        if line.startswith(b"data: "):
            return


async def rest(response: aiohttp.ClientResponse) -> list[bytes]:
    return [line async for line in response.content if line.strip()]


async def in_flight(agent: LocalAgent) -> int:
    models = (await agent.status())["models"]
    return int(next(entry["in_flight"] for entry in models if entry["name"] == MODEL))


async def slots_busy(api: str) -> int:
    """How many of the engine's own slots are at work, as llama-server says."""
    async with aiohttp.ClientSession() as session, session.get(f"{api}/slots?model={MODEL}") as response:
        return sum(slot["is_processing"] for slot in await response.json())


async def test_a_client_that_leaves_frees_the_slot_within_a_second(agents: LocalAgents) -> None:
    async with (
        agents.start("founder", SERVES_TOY) as founder,
        agents.start("client", ["--client", "--join", await founder.token("client")]) as client,
    ):
        here, there = await api_of(founder), await api_of(client)
        for api in (here, there):
            async with aiohttp.ClientSession(timeout=HOUR) as session:
                async with session.post(f"{api}/v1/chat/completions", json=chat("Tell", **LONG_ANSWER)) as response:
                    await first_piece(response)
                    assert await slots_busy(here) == 1
                left = time.monotonic()
            while await slots_busy(here) or await in_flight(founder):
                assert time.monotonic() - left < 1.0 + SCHEDULING_S


async def test_an_engine_killed_after_the_first_token_ends_the_stream_with_an_error_event(agents: LocalAgents) -> None:
    async with (
        agents.start("founder", SERVES_TOY) as founder,
        agents.start("client", ["--client", "--join", await founder.token("client")]) as client,
        aiohttp.ClientSession(timeout=HOUR) as session,
    ):
        for api in (await api_of(founder), await api_of(client)):
            await api_of(founder)
            async with session.post(f"{api}/v1/chat/completions", json=chat("Tell", **LONG_ANSWER)) as response:
                await first_piece(response)
                engine_process(founder).send_signal(signal.SIGKILL)
                killed = time.monotonic()
                lines = await rest(response)

            assert time.monotonic() - killed < PROMISED_S + SCHEDULING_S
            assert all(line.startswith((b"data: ", b"event: ")) for line in lines)
            error = json.loads(lines[-1].removeprefix(b"data: "))["error"]
            assert error["message"] and error["request_id"]


async def test_an_engine_killed_before_the_first_token_is_retried_or_told(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder, aiohttp.ClientSession(timeout=HOUR) as session:
        api = await api_of(founder)
        engine = engine_process(founder)
        engine.suspend()  # so that no token can come before the kill
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(_ask(session, api))
            await founder.until(lambda status: status["models"][0]["in_flight"] == 1, 60)
            engine.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            status, answer = await asked

        assert time.monotonic() - killed < PROMISED_S + SCHEDULING_S
        if status == 200:
            assert "meshd" in answer["choices"][0]["message"]["content"]
        else:
            assert status in (502, 503)
            assert answer["error"]["message"]


async def _ask(session: aiohttp.ClientSession, api: str) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{api}/v1/chat/completions", json=chat("What is meshd?")) as response:
        return response.status, await response.json()


async def test_a_killed_engine_comes_back_by_itself(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder, aiohttp.ClientSession(timeout=HOUR) as session:
        await api_of(founder)
        before = engine_process(founder)
        before.send_signal(signal.SIGKILL)
        await founder.until(lambda status: status["models"][0]["state"] != "ready", 60)

        status, _ = await _ask(session, await api_of(founder))

        assert status == 200
        assert engine_process(founder).pid != before.pid


async def test_a_killed_host_is_told_within_five_seconds(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder:
        token = await founder.token("client")
        async with agents.start("client", ["--client", "--join", token]) as client:
            api = await api_of(client)
            founder_process = psutil.Process(founder.child.pid)
            founder_process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            async with aiohttp.ClientSession(timeout=HOUR) as session:
                status, answer = await _ask(session, api)

            assert time.monotonic() - killed < PROMISED_S + SCHEDULING_S
            assert status in (502, 503, 504)
            assert answer["error"]["message"]


async def test_a_killed_host_is_replaced_by_another_that_has_the_model(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder:
        joins = ["--join", await founder.token("member")]
        async with (
            agents.start("second", [*SERVES_TOY, *joins]) as second,
            agents.start("client", ["--client", "--join", await founder.token("client")]) as client,
        ):
            await api_of(second)
            api = await api_of(client)
            await client.until(lambda status: len(status["models"][0]["hosts"]) == 2, 60)
            psutil.Process(founder.child.pid).send_signal(signal.SIGKILL)
            killed = time.monotonic()
            async with aiohttp.ClientSession(timeout=HOUR) as session:
                status, answer = await _ask(session, api)

            assert time.monotonic() - killed < PROMISED_S + SCHEDULING_S
            assert status == 200
            assert "meshd" in answer["choices"][0]["message"]["content"]


async def test_no_engine_outlives_a_killed_agent(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder:
        await api_of(founder)
        engine = engine_process(founder)

        psutil.Process(founder.child.pid).send_signal(signal.SIGKILL)

        gone, _ = await asyncio.to_thread(psutil.wait_procs, [engine], 60)
        assert gone


async def test_a_stopped_agent_ends_its_engine_and_says_goodbye(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("member", [*SERVES_TOY, "--join", await founder.token("member")]) as member:
            await api_of(founder)
            engine = engine_process(member)
        assert not engine.is_running()

        status = await founder.until(lambda status: status["peers"][0]["state"] == "left", 60)

    assert status["models"] == []


async def test_a_restarted_member_finds_its_mesh_without_a_token(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await api_of(member)
        async with agents.start("member") as member:
            await api_of(member)
            status = await member.status()

    assert [peer["name"] for peer in status["peers"]] == ["founder"]


async def test_leaving_forgets_the_mesh_and_stops(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await founder.until(lambda status: len(status["peers"]) == 1, 60)
            await member.call("leave", force=False)
            assert await asyncio.wait_for(member.child.wait(), 60) == 0
        await founder.until(lambda status: status["peers"][0]["state"] == "left", 60)

    assert not (member.directory / "mesh").exists()
    assert (member.directory / "node.key").exists()
