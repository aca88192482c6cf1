"""llama.cpp's RPC obeys whoever reaches it: bytes reach it under the lease of their very sender, and not else."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import llm.demo
from gossip.lease_message import LEASE_S, LeaseRequest, lease_text
from gossip.tenure import Hold
from llm.split.build import EngineBuild
from llm.split.message import PROTOCOL, Prepare, Prepared, Preparing, read_answer, to_record
from tests.mesh.agents import RunningAgent, running_agents, until
from transport.errors import MeshError, Unreachable
from transport.identity import short
from transport.interface import LinkState, NodeId, Stream, StreamHeader
from transport.pipe import connect
from transport.tunnel import Destination
from transport.tunnel_message import Denial, ServiceRefused

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
RESOURCE = "host/meshd-toy"
# HELLO, and then a SET_TENSOR that claims 2^60 bytes.
HOSTILE = struct.pack("<BQ", 14, 24) + bytes(24) + struct.pack("<BQ", 6, 1 << 60) + b"\xff" * 4096
ENDS_S = 60.0


@dataclass
class Mesh:
    host: RunningAgent
    worker: RunningAgent
    third: RunningAgent

    @property
    def worker_id(self) -> NodeId:
        return self.worker.node.footing.transport.node

    @property
    def lease(self) -> tuple[str, int]:
        """The leader's own, as it names it to the worker."""
        lease = self.host.node.leases.keeper.leases(RESOURCE)[self.worker_id]
        return lease_text(lease.lease, lease.term), lease.term

    def accepted(self) -> int:
        """How many connections the worker's RPC server has taken."""
        (log,) = self.worker.directory.logs.glob("rpc-*.log")
        return log.read_text().count("Accepted client connection")


@asynccontextmanager
async def split_mesh(folder: Path) -> AsyncIterator[Mesh]:
    """A leader and a worker that share the toy, and a third member that is no part of it."""
    async with running_agents(folder) as agents:
        host = await agents.start("host", split=True, model=(str(TOY),), threads=1, vram_limit=2.0)
        token = await host.token(uses=2)
        mesh = Mesh(host, await agents.start("worker", token, vram_limit=1.0, threads=1), host)
        await until(lambda: is_split(host), "the toy is split")
        # With a byte to offer: a split that comes back would else be as content with it, being the nearer by a hair.
        mesh.third = await agents.start("third", token, vram_limit=2**-30)
        board = mesh.third.node.footing.transport.board
        await until(lambda: board.state(mesh.worker_id) is LinkState.CONNECTED, "the third member reaches the worker")
        yield mesh


async def is_split(agent: RunningAgent) -> bool:
    models: list[dict[str, Any]] = (await agent.call("status"))["models"]
    return any((one["mode"], one["state"]) == ("split", "ready") for one in models)


async def how_it_ends(agent: RunningAgent, to: Destination) -> MeshError:
    """Send hostile bytes through a tunnel of `agent`; the error that it ends with."""
    async with agent.node.tunnels.client.listen(to) as listener:
        app = await connect(listener.address)
        try:
            async with asyncio.timeout(ENDS_S):
                with pytest.raises(OSError):
                    while True:
                        await app.write(HOSTILE)
                        await asyncio.sleep(0.05)
        finally:
            app.close()
        await until(lambda: bool(listener.failures), "the tunnel ends")
        (name,) = listener.failures
    return ServiceRefused(Denial.NO_LEASE, name) if name == "ServiceRefused" else MeshError(name)


async def test_nothing_but_the_leaders_tunnel_reaches_the_rpc_server(tmp_path: Path) -> None:
    async with split_mesh(tmp_path) as mesh:
        text, term = mesh.lease
        before, server = mesh.accepted(), mesh.worker.node.footing.offering.splitting.worker.servers[0]
        tries = [
            Destination(mesh.worker_id, "rpc"),
            Destination(mesh.worker_id, "rpc", "00" * 16 + ".1", 1),
            Destination(mesh.worker_id, "rpc", "\x00garbage", 7),
            Destination(mesh.worker_id, "rpc", text, term),  # the leader's own lease, in another's hand
        ]
        for destination in tries:
            assert isinstance(await how_it_ends(mesh.third, destination), ServiceRefused), destination
        wrong_term = Destination(mesh.worker_id, "rpc", text, term + 1)
        assert isinstance(await how_it_ends(mesh.host, wrong_term), ServiceRefused)

        assert mesh.accepted() == before
        assert mesh.worker.node.footing.offering.splitting.worker.servers == (server,)
        assert await is_split(mesh.host)


async def test_a_lease_that_ends_takes_the_rpc_server_and_its_tunnels_along(tmp_path: Path) -> None:
    async with split_mesh(tmp_path) as mesh:
        text, term = mesh.lease
        (server,) = mesh.worker.node.footing.offering.splitting.worker.servers
        async with mesh.host.node.tunnels.client.listen(Destination(mesh.worker_id, "rpc", text, term)) as listener:
            app = await connect(listener.address)
            await until(lambda: mesh.worker.node.tunnels.server.tunnels >= 2, "the tunnel stands")
            mesh.host.node.leases.keeper.hold(Hold(RESOURCE, "work", term, {}))
            with pytest.raises(OSError):
                async with asyncio.timeout(ENDS_S):
                    await app.read(1)
                    raise ConnectionResetError("ended without a reset")
            app.close()
        async with asyncio.timeout(ENDS_S):
            await server.ended()
        again = Destination(mesh.worker_id, "rpc", text, term)
        assert isinstance(await how_it_ends(mesh.host, again), ServiceRefused)


class NoWay:
    """Reaches nobody, so that no lease is renewed and none is let go of."""

    async def open(self, node: NodeId, header: StreamHeader) -> Stream:
        raise Unreachable(f"no way to {short(node)}")


async def test_a_lease_that_runs_out_takes_the_rpc_server_and_its_tunnels_along(tmp_path: Path) -> None:
    """The link is there all the while: nothing but the lease ends them."""
    async with split_mesh(tmp_path) as mesh:
        text, term = mesh.lease
        (server,) = mesh.worker.node.footing.offering.splitting.worker.servers
        service = mesh.worker.node.leases.service
        async with mesh.host.node.tunnels.client.listen(Destination(mesh.worker_id, "rpc", text, term)) as listener:
            app = await connect(listener.address)
            await until(lambda: mesh.worker.node.tunnels.server.tunnels >= 2, "the tunnel stands")
            mesh.host.node.leases.keeper._opener = NoWay()
            with pytest.raises(OSError):
                async with asyncio.timeout(LEASE_S + ENDS_S):
                    await app.read(1)
                    raise ConnectionResetError("ended without a reset")
            assert not [grant for grant in service.grants() if grant.purpose == "work"]
            app.close()
        async with asyncio.timeout(ENDS_S):
            await server.ended()
        assert mesh.host.node.footing.transport.board.state(mesh.worker_id) is LinkState.CONNECTED
        again = Destination(mesh.worker_id, "rpc", text, term)
        assert isinstance(await how_it_ends(mesh.host, again), ServiceRefused)


async def test_another_build_of_the_engine_is_refused_by_name(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        host = await agents.start("host", split=True, model=(str(TOY),), threads=1, vram_limit=2.0)
        worker = await agents.start("older", await host.token(), vram_limit=1.0)
        worker.node.footing.offering.splitting.known_build = EngineBuild("0.1.0", "0123456", 95)

        await until(lambda: says(host, "no split"), "the refusal shows")
        (model,) = (await host.call("status"))["models"]

    assert "older: another build of the engine" in model["reason"]
    assert "ggml 0.1.0 (0123456, 95 operations)" in model["reason"]
    assert model["mode"] == "solo"


async def says(agent: RunningAgent, words: str) -> bool:
    models: list[dict[str, Any]] = (await agent.call("status"))["models"]
    return any(words in one["reason"] and one["state"] == "ready" for one in models)


async def test_a_models_name_is_no_path_at_the_worker(tmp_path: Path) -> None:
    async with split_mesh(tmp_path) as mesh:
        text, _ = mesh.lease
        build = await mesh.host.node.footing.offering.splitting.build()
        name = "../../../evil"
        prepare = Prepare(text, name, "ab" * 32, build, 1 << 20, 0, 1, has_output=False)
        stream = await mesh.host.node.footing.transport.open(mesh.worker_id, StreamHeader(PROTOCOL, ""))
        await stream.send(to_record(prepare))
        while isinstance(answer := read_answer(await stream.receive(), mesh.worker_id), Preparing):
            continue
        await stream.finish()

        # The server that ran before it makes room, so the split may end, and its lease with it, before this one runs.
        assert isinstance(answer, Prepared) or "the lease ended" in answer.reason
        assert [path.name for path in tmp_path.parent.rglob("*evil*")] == []


async def test_a_killed_rpc_server_is_followed_by_another_and_the_split_comes_back(tmp_path: Path) -> None:
    async with split_mesh(tmp_path) as mesh:
        worker = mesh.worker.node.footing.offering.splitting.worker
        (first,), before = worker.servers, mesh.accepted()
        os.kill(first.child.pid, signal.SIGKILL)

        await until(lambda: bool(worker.servers) and first not in worker.servers, "another RPC server runs")
        # A load takes about fifteen connections, a greeting one.
        await until(lambda: mesh.accepted() > before + 5, "the model is loaded again")
        await until(lambda: is_split(mesh.host), "the toy is split again")

    assert not psutil.pid_exists(first.child.pid)


async def test_a_leader_may_have_the_memory_that_it_has_under_its_next_lease(tmp_path: Path) -> None:
    async with split_mesh(tmp_path) as mesh:
        splitting, leader = mesh.worker.node.footing.offering.splitting, mesh.host.node.footing.transport.node
        (grant,) = mesh.worker.node.leases.service.grants()
        again = LeaseRequest(RESOURCE, grant.term, bytes(16), True, "work", splitting.memory.free_bytes + 1)

        assert splitting.room(leader, again) is None
        assert splitting.room(mesh.third.node.footing.transport.node, again) is not None
