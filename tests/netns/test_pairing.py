"""Coming into a mesh of the local network without a token: asked by name, answered by a person."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from meshd.control import CommandFailed
from meshd.local_agents import LocalAgent, LocalAgents, last_lines
from tests.netns.namespaces import Namespace
from tests.netns.test_agents import ON_THE_NETWORK, PATIENCE_S, PORT, alive, on

OWNERS = "owner-mesh"
"""What a founder named `owner` calls its mesh."""

NAMED = (*ON_THE_NETWORK, "--mesh", OWNERS)
CODE = re.compile(r"meshd token accept (\w{4}-\w{4}-\w{4})")


async def shown_by(asker: LocalAgent) -> str:
    """The code that the asking host shows."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := CODE.search(log_of(asker))):  # noqa: ASYNC110 - a file tells nobody that it grew
            await asyncio.sleep(0.05)
    return found[1]


def log_of(agent: LocalAgent) -> str:
    return agent.log.read_text() if agent.log.exists() else ""


async def meshd(agent: LocalAgent, *command: str) -> Any:
    """Run `meshd COMMAND --json` beside an agent, as its user would."""
    argv = (sys.executable, "-m", "meshd", *command, "--data-dir", str(agent.directory), "--json")
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    return json.loads(output)


async def ended(agent: LocalAgent) -> int:
    return await asyncio.wait_for(agent.child.wait(), PATIENCE_S)


@pytest.mark.parametrize("role", ["member", "client"])
async def test_a_host_without_a_token_comes_in_when_the_owner_types_its_code(
    segment: list[Namespace], agents: LocalAgents, role: str
) -> None:
    arguments = [*NAMED, *(["--client"] if role == "client" else [])]
    async with (
        on(segment[0], agents).start("owner", ON_THE_NETWORK) as owner,
        on(segment[1], agents).launched("laptop", arguments) as laptop,
    ):
        code = await shown_by(laptop)
        (request,) = (await meshd(owner, "token", "requests"))["requests"]
        assert (request["id"], request["name"], request["role"]) == (code, "laptop", role)
        assert (request["address"], request["state"]) == (segment[1].host, "waiting")
        assert request["node"][:8] in log_of(laptop)

        await meshd(owner, "token", "accept", code)
        status = await laptop.until(lambda status: alive(status) == ["owner"], PATIENCE_S)
        assert (status["node"]["role"], status["node"]["id"]) == (role, request["node"])
        assert status["mesh"] == (await owner.status())["mesh"]
        assert (await owner.status())["refusals"] == {}

    async with (
        on(segment[0], agents).start("owner", ON_THE_NETWORK),
        on(segment[1], agents).start("laptop", arguments) as again,
    ):
        await again.until(lambda status: alive(status) == ["owner"], PATIENCE_S)


async def test_a_host_that_the_owner_refuses_says_so_and_ends(segment: list[Namespace], agents: LocalAgents) -> None:
    async with (
        on(segment[0], agents).start("owner", ON_THE_NETWORK) as owner,
        on(segment[1], agents).launched("laptop", NAMED) as laptop,
    ):
        await meshd(owner, "token", "refuse", await shown_by(laptop))
        assert await ended(laptop) == 1
        status = await owner.status()

    assert "the owner of this mesh said no" in last_lines(laptop.log)
    assert status["peers"] == []
    assert not (laptop.directory / "mesh").exists()


async def test_another_code_than_the_asker_shows_lets_nobody_in(segment: list[Namespace], agents: LocalAgents) -> None:
    async with (
        on(segment[0], agents).start("owner", ON_THE_NETWORK) as owner,
        on(segment[1], agents).launched("laptop", NAMED) as laptop,
    ):
        await shown_by(laptop)
        with pytest.raises(CommandFailed, match="somebody is between the two"):
            await owner.call("token_accept", id="AAAA-AAAA-AAAA")
        (request,) = (await owner.call("token_requests"))["requests"]

    assert request["state"] == "waiting"


async def test_who_waits_can_give_up(segment: list[Namespace], agents: LocalAgents) -> None:
    async with (
        on(segment[0], agents).start("owner", ON_THE_NETWORK),
        on(segment[1], agents).launched("laptop", NAMED) as laptop,
    ):
        await shown_by(laptop)
        psutil.Process(laptop.child.pid).send_signal(signal.SIGINT)
        assert await ended(laptop) == 1

    assert "stopped before" in last_lines(laptop.log)


async def test_a_member_cannot_let_anybody_in(segment: list[Namespace], agents: LocalAgents) -> None:
    first, second, third = (on(host, agents) for host in segment)
    async with (
        first.start("owner", ON_THE_NETWORK) as owner,
        second.start("member", [*ON_THE_NETWORK, "--join", await owner.token("member")]),
    ):
        pass
    async with second.start("member", ON_THE_NETWORK), third.launched("laptop", NAMED) as laptop:
        assert await ended(laptop) == 1

    assert "none of the nodes that answered may let anybody in" in last_lines(laptop.log)


async def test_a_second_founder_is_told_of_the_first_mesh(segment: list[Namespace], agents: LocalAgents) -> None:
    first, second, third = (on(host, agents) for host in segment)
    async with first.start("owner", ON_THE_NETWORK), second.start("second", ON_THE_NETWORK) as other:
        async with asyncio.timeout(PATIENCE_S):
            while "note:" not in log_of(other):  # noqa: ASYNC110 - a file tells nobody that it grew
                await asyncio.sleep(0.05)
        assert f"mesh {OWNERS!r} (owner at {segment[0].host}:{PORT}) already" in log_of(other)
        assert f"\n  meshd --mesh {OWNERS}\n" in log_of(other)

        async with third.start("third", [*ON_THE_NETWORK, "--mesh", "mine"]) as own:
            await own.until(lambda status: len(status["mdns"]["other_meshes"]) == 2, PATIENCE_S)
            assert (await own.status())["mesh"]["name"] == "mine"
    assert "note:" not in log_of(own)


async def test_a_client_that_finds_no_such_mesh_founds_none(segment: list[Namespace], agents: LocalAgents) -> None:
    async with on(segment[0], agents).launched("laptop", [*NAMED, "--client"]) as laptop:
        assert await ended(laptop) == 1

    assert f"no mesh {OWNERS!r} is to be found on this network" in last_lines(laptop.log)
    assert not (Path(laptop.directory) / "mesh").exists()
