"""Agents behind relays: nothing but the relay leads from one to another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgents
from transport.address import format_address, parse_address
from transport.impairment import CLEAR

PATIENCE_S = 60.0


def states(status: dict[str, Any]) -> set[str]:
    return {link["state"] for link in status["links"]}


async def test_agents_are_cut_off_and_meet_again_with_their_relays(agents: LocalAgents) -> None:
    impaired = ImpairedAgents(agents, CLEAR)
    async with (
        impaired.start("founder") as founder,
        impaired.start("other", ["--join", await founder.token("member")]) as other,
    ):
        status = await other.until(lambda status: states(status) == {"connected"}, PATIENCE_S)
        relays = {format_address(relay.address) for relay in impaired.relays}
        assert {link["address"] for link in status["links"]} <= relays
        assert (await founder.status())["doors"]["mesh"] in relays

        for relay in impaired.relays:
            relay.cut()
        await other.until(lambda status: "connected" not in states(status), PATIENCE_S)
        await founder.until(lambda status: "connected" not in states(status), PATIENCE_S)
        assert impaired.dropped()["cut"] > 0

        for relay in impaired.relays:
            relay.mend()
        await other.until(lambda status: states(status) == {"connected"}, PATIENCE_S)


async def test_no_bulk_lane_leads_past_the_relay(agents: LocalAgents) -> None:
    """It passes UDP only, so these agents have no TCP port that a lane could come to; others have."""
    impaired = ImpairedAgents(agents, CLEAR)
    async with impaired.start("founder"), agents.start("other") as other:
        for relay in impaired.relays:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(relay.upstream.host, relay.upstream.port)
        open_door = parse_address((await other.status())["doors"]["mesh"])
        _, writer = await asyncio.open_connection(open_door.host, open_door.port)
        writer.close()


async def test_an_agent_that_starts_again_is_where_it_was(agents: LocalAgents) -> None:
    impaired = ImpairedAgents(agents, CLEAR)
    async with impaired.start("founder") as founder:
        before = (await founder.status())["doors"]["mesh"]
    async with impaired.start("founder") as founder:
        assert (await founder.status())["doors"]["mesh"] == before == format_address(impaired.ways["founder"].address)
