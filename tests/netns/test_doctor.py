"""`meshd doctor` on hosts whose network is really broken: each fault is named, with one line that mends it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from meshd.local_agents import LocalAgent, LocalAgents
from tests.netns.namespaces import Namespace
from tests.netns.test_agents import ON_THE_NETWORK, alive, on

PATIENCE_S = 60.0


async def doctor(host: Namespace, agent: LocalAgent, *flags: str) -> dict[str, dict[str, Any]]:
    """Checks by name, as `meshd doctor --json` prints them on that host."""
    argv = host.command(sys.executable, "-m", "meshd", *flags, "--data-dir", str(agent.directory), "doctor", "--json")
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    report = json.loads(output)
    assert process.returncode == (0 if report["ok"] else 1)
    return {check["name"]: check for check in report["checks"]}


def failed(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["fix"] for name, check in checks.items() if not check["ok"]}


async def test_faults_of_the_network_are_named_one_by_one(segment: list[Namespace], agents: LocalAgents) -> None:
    first, second, third = (on(host, agents) for host in segment)
    flags = (*ON_THE_NETWORK, "--no-mdns")
    async with first.start("founder", flags) as founder:
        token = await founder.token("member", 2)
        async with second.start("other", [*flags, "--join", token]), third.start("third", [*flags, "--join", token]):
            await founder.until(lambda status: sorted(alive(status)) == ["other", "third"], PATIENCE_S)
            assert failed(await doctor(segment[0], founder)) == {}

            segment[0].ip("route", "del", "224.0.0.0/4", "dev", "eth0")
            assert "5353" in failed(await doctor(segment[0], founder))["multicast"]
            segment[0].ip("route", "add", "224.0.0.0/4", "dev", "eth0")

            segment[0].ip("link", "set", "eth0", "mtu", "1200")
            assert "dev eth0" in failed(await doctor(segment[0], founder))["mtu"]
            segment[0].ip("link", "set", "eth0", "mtu", "1500")

            # Packets to the second host vanish; what it sends still comes.
            segment[0].ip("route", "add", "blackhole", f"{segment[1].host}/32")
            await founder.until(lambda status: not is_linked(status, "other"), PATIENCE_S)
            fixes = failed(await doctor(segment[0], founder))
            assert "other" in fixes["peers"]
            assert "7842/udp" in fixes["peers"]


def is_linked(status: dict[str, Any], name: str) -> bool:
    return any(link["name"] == name and link["state"] == "connected" for link in status["links"])
