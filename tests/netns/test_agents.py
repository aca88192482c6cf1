"""Whole agents on a local network: members find each other again by mDNS alone, and nobody else gets in by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshd.local_agents import LocalAgents
from tests.netns.namespaces import Namespace
from tests.netns.probes import multicast_listener
from tests.netns.tap_bridge import TapBridge
from transport.impairment import Conditions

PATIENCE_S = 60.0
PORT = 7842
ON_THE_NETWORK = ("--bind", f"[::]:{PORT}")
ROOT = Path(__file__).parents[2]


def on(host: Namespace, agents: LocalAgents) -> LocalAgents:
    """Agents that run on `host`."""
    return replace(agents, prefix=host.command())


async def join_each_other(first: LocalAgents, second: LocalAgents, *role: str) -> None:
    """Make a mesh of `founder` and `other`, stop both, and wipe what they know of where the other is."""
    async with first.start("founder", ON_THE_NETWORK) as founder:
        token = await founder.token("client" if role else "member")
        async with second.start("other", [*ON_THE_NETWORK, *role, "--join", token]) as other:
            await other.until(lambda status: alive(status) == ["founder"], PATIENCE_S)
    (other.directory / "addresses").unlink()
    (founder.directory / "addresses").unlink(missing_ok=bool(role))  # nobody remembers where a client was


def alive(status: dict[str, Any]) -> list[str]:
    return [peer["name"] for peer in status["peers"] if peer["state"] == "alive"]


def connected(status: dict[str, Any]) -> list[str]:
    return [link["name"] for link in status["links"] if link["state"] == "connected"]


@contextlib.asynccontextmanager
async def impostor(on: Namespace, mesh_id: str) -> AsyncIterator[None]:
    """Say on the network that node 9 of that mesh is to be found at `on`."""
    command = on.command(sys.executable, "-m", "tests.netns.seeker", mesh_id, "9", str(PORT), on.host)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_members_that_forgot_where_they_were_find_each_other(
    segment: list[Namespace], agents: LocalAgents
) -> None:
    first, second = on(segment[0], agents), on(segment[1], agents)
    await join_each_other(first, second)

    async with first.start("founder", ON_THE_NETWORK) as founder, second.start("other", ON_THE_NETWORK) as other:
        await founder.until(lambda status: alive(status) == ["other"], PATIENCE_S)
        status = await other.until(lambda status: alive(status) == ["founder"], PATIENCE_S)

    assert status["mdns"] == {"state": "on", "problem": "", "other_meshes": []}
    assert status["links"][0]["address"].startswith(segment[0].host)


async def test_they_find_each_other_across_a_slow_and_lossy_wire(
    wire: tuple[Namespace, Namespace, TapBridge], agents: LocalAgents
) -> None:
    here, there, bridge = wire
    first, second = on(here, agents), on(there, agents)
    await join_each_other(first, second)
    bad = Conditions(delay_s=0.04, jitter_s=0.01, loss=0.1)
    bridge.change(bad, bad)

    async with first.start("founder", ON_THE_NETWORK) as founder, second.start("other", ON_THE_NETWORK) as other:
        await founder.until(lambda status: alive(status) == ["other"], PATIENCE_S)
        await other.until(lambda status: alive(status) == ["founder"], PATIENCE_S)
    assert bridge.dropped()[0]["loss"] > 0


async def test_a_client_finds_its_mesh_and_cannot_be_found(segment: list[Namespace], agents: LocalAgents) -> None:
    first, second = on(segment[0], agents), on(segment[1], agents)
    await join_each_other(first, second, "--client")

    async with second.start("other", [*ON_THE_NETWORK, "--client"]) as client:
        with multicast_listener(segment[2]) as listening:
            async with first.start("founder", ON_THE_NETWORK):
                await client.until(lambda status: connected(status) == ["founder"], PATIENCE_S)
            said = await everything_on(listening, until=segment[0].host)
    assert any(map(is_answer, said[segment[0].host]))
    assert not any(map(is_answer, said[segment[1].host]))


def is_answer(packet: bytes) -> bool:
    """Whether a DNS packet tells something, rather than asks (RFC 1035 §4.1.1: QR)."""
    return bool(packet[2] & 0x80)


async def everything_on(listening: socket.socket, until: str) -> dict[str, list[bytes]]:
    """What has come in from each host, waiting for `until` to say something."""
    loop = asyncio.get_running_loop()
    said: dict[str, list[bytes]] = {}
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.5 if until in said else PATIENCE_S):
                packet, source = await loop.sock_recvfrom(listening, 9000)
            said.setdefault(source[0], []).append(packet)
    return said


@pytest.mark.parametrize("silent", [("--no-mdns",), ("--bind", f"127.0.0.1:{PORT}")])
async def test_an_agent_that_stays_out_of_mdns_sends_nothing(
    segment: list[Namespace], agents: LocalAgents, silent: tuple[str, ...]
) -> None:
    quiet, loud = segment[:2]
    with multicast_listener(segment[2]) as listening:
        async with on(quiet, agents).start("quiet", [*ON_THE_NETWORK, *silent]) as agent:
            async with on(loud, agents).start("loud", ON_THE_NETWORK):
                said = await everything_on(listening, until=loud.host)
            status = await agent.status()

    assert set(said) == {loud.host}
    assert status["mdns"]["state"] == "off"
    assert status["mdns"]["other_meshes"] == []


async def test_a_forged_advertisement_admits_nobody(segment: list[Namespace], agents: LocalAgents) -> None:
    here, there, _ = segment
    async with (
        on(there, agents).start("stranger", ON_THE_NETWORK) as stranger,
        on(here, agents).start("victim", ON_THE_NETWORK) as victim,
    ):
        mesh_id = (await victim.status())["mesh"]["id"]
        async with impostor(there, mesh_id):
            await stranger.until(lambda status: status["refusals"].get("wrong_mesh", 0) > 0, PATIENCE_S)
            status = await victim.status()

    assert status["peers"] == []
    assert connected(status) == []
    assert len(status["links"]) == 1


async def test_another_mesh_on_the_network_is_shown_and_not_mixed_up(
    segment: list[Namespace], agents: LocalAgents
) -> None:
    async with (
        on(segment[0], agents).start("one", ON_THE_NETWORK) as one,
        on(segment[1], agents).start("other", ON_THE_NETWORK),
    ):
        status = await one.until(lambda status: bool(status["mdns"]["other_meshes"]), PATIENCE_S)

    assert f"{segment[1].host}:{PORT}" in status["mdns"]["other_meshes"][0]
    assert status["links"] == []
