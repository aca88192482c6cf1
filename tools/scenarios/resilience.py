"""Workers, links and hosts that die, stop or are slow: the same text or an error in words, and no peer is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil

from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgent
from meshd.local_mesh import LocalMesh
from tools.scenarios.listener import Heard, listening
from tools.scenarios.stage import PATIENCE_S, TOY, Answer, DidNotHold, Stage, ask, entry, until_served
from transport.impairment import CLEAR, Conditions, Rate

QUESTION = "What is meshd?"
MODEL = TOY.stem
SERVES = ("--model", str(TOY), "--threads", "1")
WORKS = ("--vram-limit", "1", "--threads", "1")

ENDS_S = 30.0
"""For a stream whose ground is gone; a loaded machine included."""
SWAP_S = 8.0
"""For an answer while one way of serving takes over from the other: less than a worker that is back rests."""
BUSY = 3
"""So many times what an answer took just before, since other agents start meanwhile."""
SHORT_CUT_S, LONG_CUT_S = 5.0, 14.0
"""On either side of the 10 s that a tunnel waits for its link."""
STOPPED_S = 20.0
LOAD_S = 20.0
LINK_BYTES_PER_S = 1_000_000
LARGE = "large"


async def run(stage: Stage) -> None:
    await a_split_loses_what_it_stands_on(stage)
    await a_host_dies_and_another_stands_still(stage)
    await a_load_takes_long(stage)


# A split


async def a_split_loses_what_it_stands_on(stage: Stage) -> None:
    ways = ImpairedAgents(stage.agents, CLEAR)
    async with LocalMesh(ways) as mesh:
        stage.step("'host' serves the toy with --split; alone at first, which gives the texts to compare with")
        host = await mesh.start("host", *SERVES, "--split", "--vram-limit", "2")
        await until_served(host, MODEL, "solo")
        short = (await ask(host, MODEL, QUESTION)).text
        async with listening(host, MODEL, QUESTION, tokens=400) as listener:
            long = (await listener.ended(PATIENCE_S)).text
        stage.show(short)
        await mesh.join("worker", await host.token("member"), *WORKS)
        await until_served(host, MODEL, "split")

        stage.step("the worker's RPC server is killed while an answer streams")
        await _kill_rpc_server(stage, mesh, short)
        stage.step("the whole worker is killed while an answer streams")
        await _kill_worker(stage, mesh, short)
        stage.step(f"the network is cut for {SHORT_CUT_S:.0f} s while an answer streams")
        await _cut_shortly(stage, mesh, ways, long)
        stage.step(f"the network is cut for {LONG_CUT_S:.0f} s, longer than a tunnel waits")
        await _cut_for_long(stage, mesh, ways, short)


async def _kill_rpc_server(stage: Stage, mesh: LocalMesh, expected: str) -> None:
    host, server = mesh.agents["host"], _child(mesh.agents["worker"], "ggml-rpc-server")
    async with listening(host, MODEL, "Tell me") as listener:
        server.kill()
        answer = await ask(host, MODEL, QUESTION)
        _check_broken_off(stage, await listener.ended(ENDS_S))
    _check_right_or_told(stage, "a request just after the kill", answer, expected)
    await until_served(host, MODEL, "split")
    new = _child(mesh.agents["worker"], "ggml-rpc-server")
    stage.check("the worker has a new RPC server, and the split stands again", new.pid != server.pid, new)
    await _check_right(stage, host, expected, "split")


async def _kill_worker(stage: Stage, mesh: LocalMesh, expected: str) -> None:
    host = mesh.agents["host"]
    async with listening(host, MODEL, "Tell me") as listener:
        await mesh.kill("worker")
        _check_broken_off(stage, await listener.ended(ENDS_S))
    await until_served(host, MODEL, "solo")
    asked = time.monotonic()
    await _check_right(stage, host, expected, "solo")
    within_s = SWAP_S + BUSY * (time.monotonic() - asked)
    await mesh.start_again("worker")
    stage.show("the worker is back")
    async with asyncio.TaskGroup() as group:
        longest = group.create_task(_ask_until_split(host, expected, within_s))
        await until_served(host, MODEL, "split")
    stage.check(f"until the split stands again, no answer takes longer than {longest.result():.1f} s", True)


async def _ask_until_split(host: LocalAgent, expected: str, within_s: float) -> float:
    """Ask until a split answers; the longest that an answer took. Raises DidNotHold for one late, or not right."""
    longest = 0.0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            asked = time.monotonic()
            answer = await ask(host, MODEL, QUESTION)
            longest = max(longest, time.monotonic() - asked)
            if answer.status != 200 or answer.text != expected or longest > within_s:
                raise DidNotHold(f"the same text within {within_s:.0f} s, got {answer} after {longest:.1f} s")
            if answer.headers.get("x-meshd-mode") == "split":
                return longest
            await asyncio.sleep(0.2)


async def _cut_shortly(stage: Stage, mesh: LocalMesh, ways: ImpairedAgents, expected: str) -> None:
    host, worker = mesh.agents["host"], mesh.agents["worker"]
    before = _child(host, "llama-server").pid, _child(worker, "ggml-rpc-server").pid
    async with listening(host, MODEL, QUESTION, tokens=400) as listener:
        async with _cut(ways):
            await asyncio.sleep(SHORT_CUT_S)
        heard = await listener.ended(PATIENCE_S)
    stage.check("the stream ended in order", heard.is_whole, heard.error or heard)
    stage.check(f"it stood still for {heard.longest_pause_s:.1f} s", heard.longest_pause_s > SHORT_CUT_S / 2, heard)
    stage.check("and then went on with the text of an uncut one", heard.text == expected, heard.text)
    after = _child(host, "llama-server").pid, _child(worker, "ggml-rpc-server").pid
    stage.check(f"by the same engine process ({after[0]}) and RPC server ({after[1]})", before == after, before)


async def _cut_for_long(stage: Stage, mesh: LocalMesh, ways: ImpairedAgents, expected: str) -> None:
    host = mesh.agents["host"]
    async with _cut(ways):
        began = time.monotonic()
        await until_served(host, MODEL, "solo")
        stage.show(f"'host' serves alone after {time.monotonic() - began:.0f} s")
        await _check_right(stage, host, expected, "solo")
        await asyncio.sleep(began + LONG_CUT_S - time.monotonic())
    await until_served(host, MODEL, "split")
    stage.show("the split is restored with the link")
    await _check_right(stage, host, expected, "split")


# A host


async def a_host_dies_and_another_stands_still(stage: Stage) -> None:
    async with LocalMesh(stage.agents) as mesh:
        stage.step("two hosts serve the toy, and a laptop asks")
        first = await mesh.start("first", *SERVES)
        member, client = await first.token("member"), await first.token("client")
        await mesh.join("second", member, *SERVES)
        laptop = await mesh.join("laptop", client, "--client")
        await _until_both_host(laptop)
        expected = (await ask(laptop, MODEL, QUESTION)).text

        stage.step("the host that answers is killed in mid-answer")
        async with listening(laptop, MODEL, "Tell me") as listener:
            victim = listener.heard.node
            await mesh.kill(victim)
            (other,) = {"first", "second"} - {victim}
            await _check_served_by(stage, laptop, other, expected)
            _check_broken_off(stage, await listener.ended(ENDS_S))
        await mesh.start_again(victim)
        await _until_both_host(laptop)
        stage.show(f"'{victim}' is back")

        stage.step(f"the elected host stands still for {STOPPED_S:.0f} s")
        await _stop_host(stage, mesh, expected)

        stage.step("the engine of a host stands still, while its agent goes on")
        await _stop_engine(stage, mesh.agents["first"], expected)


async def _stop_host(stage: Stage, mesh: LocalMesh, expected: str) -> None:
    laptop = mesh.agents["laptop"]
    before = entry(await laptop.until(_has_a_host, PATIENCE_S), MODEL)
    (other,) = {"first", "second"} - {before["host"]}
    process = psutil.Process(mesh.agents[before["host"]].child.pid)
    process.suspend()
    began = time.monotonic()
    try:
        while time.monotonic() - began < STOPPED_S:
            await _check_served_by(stage, laptop, other, expected)
            await asyncio.sleep(4)
        during = entry(await laptop.until(_is_hosted_by(other), PATIENCE_S), MODEL)
    finally:
        process.resume()
    stage.check(f"'{other}' has taken its place", during["term"] > before["term"], (before, during))
    for agent in mesh.agents.values():
        await agent.until(_is_hosted_by(other), PATIENCE_S)
    stage.check(f"awake again, all agree on '{other}'", True)
    await _until_both_host(laptop)
    await _until_used(laptop, before["host"])
    stage.check(f"and '{before['host']}' answers requests again", True)


async def _stop_engine(stage: Stage, host: LocalAgent, expected: str) -> None:
    stopped = _child(host, "llama-server")
    stopped.suspend()
    asked = time.monotonic()
    answer = await ask(host, MODEL, QUESTION)
    took = f"after {time.monotonic() - asked:.0f} s"
    is_right = (answer.status, answer.text) == (200, expected)
    stage.check(f"asked meanwhile, it has the right answer from elsewhere {took}", is_right, answer)
    await host.until(lambda status: entry(status, MODEL)["state"] == "ready", PATIENCE_S)
    await asyncio.to_thread(psutil.wait_procs, [stopped], PATIENCE_S)
    new = await _until_child(host, "llama-server")
    stage.check(f"the engine was ended ({stopped.pid}) and another started ({new.pid})", new.pid != stopped.pid, new)


async def _until_child(agent: LocalAgent, name: str) -> psutil.Process:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return _child(agent, name)
            except StopIteration:
                await asyncio.sleep(0.1)


async def _until_used(laptop: LocalAgent, name: str) -> None:
    """Ask twice at once, which two hosts share, until `name` has answered."""
    async with asyncio.timeout(PATIENCE_S):
        for number in range(1000):
            questions = (f"Question {number}{letter}" for letter in "ab")
            answers = await asyncio.gather(*(ask(laptop, MODEL, question, tokens=64) for question in questions))
            if name in {answer.headers.get("x-meshd-node") for answer in answers}:
                return


# A load


async def a_load_takes_long(stage: Stage) -> None:
    ways = ImpairedAgents(stage.agents, CLEAR)
    path = stage.model(LARGE, width=640, layers=6, context_tokens=512)
    async with LocalMesh(ways) as mesh:
        stage.step(
            f"a model of {path.stat().st_size / 1e6:.0f} MB needs two nodes, and the link between is slow: 1 MB/s"
        )
        small = await mesh.start("small", *SERVES, "--vram-limit", "0.075")
        token = await small.token("member", uses=2)
        door = await mesh.join("door", token, "--vram-limit", "0.001")
        await until_served(door, MODEL, "solo")
        expected = (await ask(door, MODEL, QUESTION)).text
        _change(ways, Conditions(rate=Rate(LINK_BYTES_PER_S)))
        since = time.time()
        engine = ("--model", str(path), "--ctx", "512", "--parallel", "1", "--threads", "1")
        loader = await mesh.join("loader", token, *engine, "--vram-limit", "0.06")
        _change(ways, Conditions(rate=Rate(LINK_BYTES_PER_S)))
        await loader.until(lambda status: entry(status, LARGE)["state"] == "loading", PATIENCE_S)
        slowest = await _ask_meanwhile(stage, mesh, expected)
        stage.check(f"who asked for the toy meanwhile had the right answer, after {slowest:.1f} s at most", True)
        told = [one for one in mesh.changes(since) if one.state in ("suspect", "dead")]
        stage.check("nobody was suspected", not told, told)
        answer = await ask(door, LARGE, "Tell me", tokens=8)
        stage.check("the split answers", answer.status == 200, answer)
        _change(ways, CLEAR)

        stage.step("its worker is killed, and no other node is large enough")
        await _lose_the_only_worker(stage, mesh, answer.text)


async def _lose_the_only_worker(stage: Stage, mesh: LocalMesh, expected: str) -> None:
    loader, door = mesh.agents["loader"], mesh.agents["door"]
    await mesh.kill("small")
    status = await loader.until(lambda status: bool(status["waiting"]), PATIENCE_S)
    stage.show(status["waiting"][0]["reason"])
    refused = await ask(door, LARGE, "Tell me", tokens=8)
    stage.check(f"a request is told: {refused.error[:120]}", refused.status == 503 and "Retry-After" in refused.headers)
    await mesh.start_again("small")
    await until_served(door, LARGE, "split")
    answer = await ask(door, LARGE, "Tell me", tokens=8)
    stage.check("with the worker back, it answers the same text", answer.text == expected, answer)


def _change(ways: ImpairedAgents, conditions: Conditions) -> None:
    for way in ways.ways.values():
        for line in (way.there, way.back):
            line.change(conditions)


async def _ask_meanwhile(stage: Stage, mesh: LocalMesh, expected: str) -> float:
    """Ask for the toy at the node that loads until it has loaded; the longest that an answer took."""
    loader, slowest, began = mesh.agents["loader"], 0.0, time.monotonic()
    while True:
        status = await loader.until(lambda status: True, PATIENCE_S)
        found = entry(status, LARGE)
        if found["state"] == "ready" and found["mode"] == "split":
            break
        if time.monotonic() - began > PATIENCE_S:
            stage.check("it loads in the end", False, found)
        asked = time.monotonic()
        answer = await ask(loader, MODEL, QUESTION)
        slowest = max(slowest, time.monotonic() - asked)
        if answer.status != 200 or answer.text != expected:
            stage.check("the toy answers while the other model loads", False, answer)
        await asyncio.sleep(1)
    took_s = time.monotonic() - began
    stage.check(f"the load took {took_s:.0f} s", took_s > LOAD_S / 2, took_s)
    return slowest


# What is seen


@asynccontextmanager
async def _cut(ways: ImpairedAgents) -> AsyncIterator[None]:
    for way in ways.ways.values():
        way.cut()
    try:
        yield
    finally:
        for way in ways.ways.values():
            way.mend()


def _child(agent: LocalAgent, name: str) -> psutil.Process:
    children = psutil.Process(agent.child.pid).children(recursive=True)
    return next(child for child in children if child.name() == name)


def _check_broken_off(stage: Stage, heard: Heard) -> None:
    stage.check("the stream ended with an error in words", bool(heard.error.get("message")), heard)
    stage.show(heard.error["message"][:150])


def _check_right_or_told(stage: Stage, what: str, answer: Answer, expected: str) -> None:
    if answer.status == 200:
        stage.check(f"{what} was tried again, and has its answer", answer.text == expected, answer)
    else:
        stage.check(f"{what} is told: {answer.status} {answer.error[:90]}", answer.status in (502, 503), answer)


async def _check_right(stage: Stage, agent: LocalAgent, expected: str, mode: str) -> None:
    answer = await ask(agent, MODEL, QUESTION)
    seen = (answer.status, answer.headers.get("x-meshd-mode"))
    stage.check(f"asked, it answers the same text ({mode})", seen == (200, mode) and answer.text == expected, answer)


async def _check_served_by(stage: Stage, agent: LocalAgent, name: str, expected: str) -> None:
    asked = time.monotonic()
    answer = await ask(agent, MODEL, QUESTION)
    seen = (answer.status, answer.headers.get("x-meshd-node"))
    took = f"after {time.monotonic() - asked:.1f} s"
    stage.check(
        f"a new request is answered by '{name}' {took}", seen == (200, name) and answer.text == expected, answer
    )


async def _until_both_host(agent: LocalAgent) -> None:
    def holds(status: dict[str, Any]) -> bool:
        alive = {peer["name"] for peer in status["peers"] if peer["state"] == "alive"}
        return {"first", "second"} <= alive & set(entry(status, MODEL).get("hosts", []))

    await agent.until(holds, PATIENCE_S)


def _has_a_host(status: dict[str, Any]) -> bool:
    return bool(entry(status, MODEL).get("host"))


def _is_hosted_by(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: entry(status, MODEL).get("host") == name
