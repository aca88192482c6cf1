"""`--advertise`: what others are told instead of what the socket is bound to."""

from __future__ import annotations

import asyncio

from meshd.local_agents import LocalAgents, last_lines
from transport.address import format_address
from transport.invite import parse_token

EXIT_TIMEOUT_S = 90


async def test_tokens_and_doors_name_the_advertised_addresses(agents: LocalAgents) -> None:
    told = ["--advertise", "mesh.example", "--advertise", "192.0.2.7:4000"]
    async with agents.start("founder", told) as founder:
        status = await founder.status()
        invite = parse_token(await founder.token("member"))

    name, other = map(format_address, invite.addresses)
    assert name.startswith("mesh.example:") and not name.endswith(":0")
    assert other == "192.0.2.7:4000"
    assert status["doors"]["mesh"] == name


async def test_an_address_that_nobody_can_dial_is_refused(agents: LocalAgents) -> None:
    async with agents.launched("founder", ["--advertise", ":7842"]) as founder:
        assert await asyncio.wait_for(founder.child.wait(), EXIT_TIMEOUT_S) == 1

    assert "--advertise: expected an address that others can dial" in last_lines(founder.log)
