"""In which order a node's services stand: who asks comes in last, and farewells are said while links stand."""

from __future__ import annotations

import asyncio
from pathlib import Path

from meshd.permission import OPENERS
from tests.mesh.agents import running_agents

DOORS = ["dispatch", "api", "control", "console"]
ANSWERED_BY_TRANSPORT = {"bulk/1"}
NOT_BY_EVERY_NODE = {"draft/1", "session/1"}


async def test_the_order_of_a_nodes_services(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        services = (await agents.start("founder")).node.services
    names = [service.name for service in services]
    assert names[0] == "gossip"
    assert names[-5:] == [*DOORS, "neighbourhood"]
    assert not any(service.streams or service.commands for service in services[-5:])
    assert [service.name for service in services if service.farewell is not None] == ["gossip", "splitting"]
    assert [service.name for service in services if service.ready] == ["api", "control"]


async def test_a_member_answers_all_that_peers_may_open_and_a_client_computes_nothing(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        founder = await agents.start("founder")
        laptop = await agents.start("laptop", await founder.token("client"), client=True)
        member_streams, client_streams = (
            {protocol for service in agent.node.services for protocol in service.streams} for agent in (founder, laptop)
        )
    assert member_streams == OPENERS.keys() - ANSWERED_BY_TRANSPORT - NOT_BY_EVERY_NODE
    assert member_streams - client_streams == {"form/1", "poc/1"}


async def test_an_upstream_of_any_name_takes_no_other_works_place(tmp_path: Path) -> None:
    named = tuple(f"{name}=http://127.0.0.1:9/v1" for name in ("models", "gossip"))
    async with running_agents(tmp_path) as agents:
        await agents.start("founder", upstream=named)
        running = {task.get_name() for task in asyncio.all_tasks()}
    assert {"models", "gossip", "upstream models", "upstream gossip"} <= running
