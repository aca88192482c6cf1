"""Five real agents: who dies is noticed, who lives is not slandered, and the mesh outlives its members.

Times are a multiple of what the design promises, since the machine is shared; `python -m bench.crash_trials` and
`python -m bench.soak` measure. A second mesh behind lossy relays runs beside all of these tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgent, LocalAgents, local_agents
from meshd.local_mesh import Change, LocalMesh
from tests.live.test_admission import until_it_may_invite
from tests.live.toy import HOUR
from transport.impairment import Conditions

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIVE = ("n0", "n1", "n2", "n3", "n4")
FOUNDER = "n0"
KNOWN_S = 60.0
"""Goal: 9 s at worst, on a machine of one's own."""
REFORMED_S = 60.0
"""Goal: 10 s."""
STANDSTILL_S = 10.0
LOSSY_S = 40.0
SOON_S = 60.0
PROMISED_S = 5.0
"""Within this long a request is answered by another host when the first has died."""
AT_ONCE_S = 1.5
"""More than usual: asking a dead node costs 2 s."""
SHARED_MACHINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Lossy:
    """The mesh that is left alone on bad ways. since: when all had met, in Unix seconds."""

    mesh: LocalMesh
    since: float


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def lossy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lossy]:
    """Begun before the first test, so that the last need not wait."""
    agents = local_agents(tmp_path_factory.mktemp("lossy"))
    async with LocalMesh(ImpairedAgents(agents, Conditions(loss=0.2))) as mesh:
        await mesh.found(FIVE)
        yield Lossy(mesh, time.time())


def false_deaths(changes: list[Change], *deserving: str) -> list[Change]:
    """Whoever was called dead, or gone, without being one of these."""
    return [change for change in changes if change.state in ("dead", "left") and change.subject not in deserving]


def states(status: dict[str, Any]) -> dict[str, str]:
    return {peer["name"]: peer["state"] for peer in status["peers"]}


# Death


async def test_who_is_killed_is_soon_dead_to_all_others_and_comes_back(agents: LocalAgents) -> None:
    async with LocalMesh(agents) as mesh:
        await mesh.found(FIVE)
        for victim in ("n3", FOUNDER):
            killed = await mesh.kill(victim)
            await mesh.until_told(victim, "dead", killed, KNOWN_S)
            for name in mesh.running:
                assert states(await mesh.agents[name].status())[victim] == "dead"
            assert false_deaths(mesh.changes(killed), victim) == []

            await mesh.start_again(victim)
            await mesh.until_met(KNOWN_S)


async def test_requests_avoid_a_killed_host_from_the_first_failure_on(agents: LocalAgents) -> None:
    async with LocalMesh(agents) as mesh, aiohttp.ClientSession(timeout=HOUR) as session:
        await mesh.found(FIVE, serving=("n1", "n2"), arguments=("--model", "echo:echo"))
        apis = {name: await api_with_hosts(mesh.agents[name], 2) for name in ("n0", "n3", "n4")}
        victim = (await ask(session, apis["n0"])).node
        (survivor,) = {"n1", "n2"} - {victim}
        usual = await asyncio.gather(*(ask(session, api) for _ in range(2) for api in apis.values()))
        usual_s = max(answer.seconds for answer in usual)

        killed = await mesh.kill(victim)
        first = await asyncio.gather(*(ask(session, apis["n0"]) for _ in range(4)))
        then = await asyncio.gather(*(ask(session, apis["n0"]) for _ in range(4)))
        # The others have not failed themselves: gossip tells them.
        await mesh.until_told(victim, "suspect", killed, KNOWN_S)
        elsewhere = await asyncio.gather(*(ask(session, api) for api in apis.values()))

        assert {answer.node for answer in (*first, *then, *elsewhere)} == {survivor}
        assert max(answer.seconds for answer in first) < PROMISED_S + SHARED_MACHINE_S
        assert median(answer.seconds for answer in (*then, *elsewhere)) < usual_s + AT_ONCE_S


async def api_with_hosts(agent: LocalAgent, count: int) -> str:
    """The agent's API, once it knows that many hosts of the model."""

    def holds(status: dict[str, Any]) -> bool:
        return any(len(model["hosts"]) == count and model["state"] == "ready" for model in status["models"])

    return str((await agent.until(holds, SOON_S))["doors"]["api"])


@dataclass(frozen=True, slots=True)
class Answered:
    """Who gave an answer, and how long it took."""

    node: str
    seconds: float


async def ask(session: aiohttp.ClientSession, api: str) -> Answered:
    began = time.monotonic()
    async with session.post(f"{api}/v1/chat/completions", json=question("one two three")) as response:
        assert response.status == 200, await response.text()
        await response.read()
        return Answered(response.headers["x-meshd-node"], time.monotonic() - began)


def question(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **options}


# Standing still


async def test_a_node_that_stood_still_slanders_nobody_and_is_taken_back(agents: LocalAgents) -> None:
    """The others cannot tell it from a dead one, and may say so; what counts is what is said of the living."""
    async with LocalMesh(agents) as mesh:
        await mesh.found(FIVE)
        pid, its_id = mesh.agents["n1"].child.pid, (await mesh.agents["n1"].status())["node"]["id"]
        began = time.time()
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(STANDSTILL_S)
        finally:
            os.kill(pid, signal.SIGCONT)

        await mesh.until_met(KNOWN_S)
        await asyncio.sleep(2.0)  # for its first words to go round
        changes = mesh.changes(began)
        assert false_deaths(changes, "n1") == []
        assert [change for change in changes if change.accuser and its_id.startswith(change.accuser)] == []
        await mesh.until_met(KNOWN_S)


# Coming back, and coming


async def test_a_mesh_of_which_all_were_killed_forms_again_also_without_its_founder(agents: LocalAgents) -> None:
    async with LocalMesh(agents) as mesh:
        await mesh.found(FIVE)
        await mesh.agents[FOUNDER].call("delegate", node="n1")
        await until_it_may_invite(mesh.agents["n1"])
        await until_all_know_where(mesh)

        await mesh.kill(*FIVE)
        await mesh.start_again(*FIVE)
        await mesh.until_met(REFORMED_S)

        await mesh.kill(*FIVE)
        await mesh.start_again(*FIVE[1:])
        await mesh.until_met(REFORMED_S)
        for name in FIVE[1:]:
            assert states(await mesh.agents[name].status()).get(FOUNDER) != "alive"

        await mesh.join("n5", await until_it_may_invite(mesh.agents["n1"]))
        await mesh.until_met(REFORMED_S)


async def until_all_know_where(mesh: LocalMesh) -> None:
    """Wait until every address book names every other agent."""
    async with asyncio.timeout(SOON_S):
        for name in mesh.running:
            book = mesh.agents[name].directory / "addresses"
            while not book.exists() or len(json.loads(book.read_text())["nodes"]) < len(mesh.running) - 1:
                await asyncio.sleep(0.05)


async def test_a_stream_goes_on_while_a_new_host_joins(agents: LocalAgents) -> None:
    words = [str(number) for number in range(60)]
    async with LocalMesh(agents) as mesh, aiohttp.ClientSession(timeout=HOUR) as session:
        await mesh.found(FIVE, serving=("n1",), arguments=("--model", "echo:echo@20"))
        token = await mesh.agents[FOUNDER].token("member")
        api = await api_with_hosts(mesh.agents["n3"], 1)
        told: list[str] = []
        async with session.post(f"{api}/v1/chat/completions", json=question(" ".join(words), stream=True)) as response:
            async with asyncio.TaskGroup() as group:
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        continue
                    if not told:
                        group.create_task(mesh.join("n5", token, "--model", "echo:echo@20"), name="a new host joins")
                    choice = json.loads(line[6:])["choices"][0]
                    told.append(choice["delta"].get("content", ""))
                    if len(told) == len(words) // 2:
                        await api_with_hosts(mesh.agents["n3"], 2)
        assert "".join(told).split() == words
        await mesh.until_met(SOON_S)


# Bad ways; last, so that most of its time is over


async def test_nobody_is_called_dead_on_ways_that_lose_a_fifth(lossy: Lossy) -> None:
    await asyncio.sleep(max(0.0, lossy.since + LOSSY_S - time.time()))

    assert false_deaths(lossy.mesh.changes(lossy.since)) == []
    await lossy.mesh.until_met(SOON_S)
