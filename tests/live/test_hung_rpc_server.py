"""A worker's RPC server that stands still is ended and started again, and the split comes back."""

from __future__ import annotations

import asyncio

import pytest

from llm.engines.rpc_server import HUNG
from meshd.local_agents import LocalAgents, last_lines
from tests.live.test_split_losses import LEADS, WORKS, gone, rpc_server, rpc_servers
from tests.live.toy import MODEL
from tools.scenarios.stage import ask, until_served

PATIENCE_S = 150.0


@pytest.mark.timeout(400)
async def test_a_stopped_rpc_server_is_noticed_and_the_split_comes_back(agents: LocalAgents) -> None:
    async with agents.start("leader", LEADS) as leader:
        async with agents.start("worker", [*WORKS, "--join", await leader.token("member")]) as worker:
            await until_served(leader, MODEL, "split")
            stopped = rpc_server(worker)
            stopped.suspend()
            async with asyncio.TaskGroup() as group:
                group.create_task(ask(leader, MODEL, "What is meshd?"), name="ask meanwhile")
                await gone(stopped, PATIENCE_S)
            await leader.until(lambda status: bool(rpc_servers(worker)), PATIENCE_S)
            await until_served(leader, MODEL, "split")
            answer = await ask(leader, MODEL, "What is meshd?")
        assert HUNG in last_lines(worker.log, 200)
    assert (answer.status, answer.headers["x-meshd-mode"]) == (200, "split")
