"""Tunnels between whole agents: who may use a service, who is told why not, and what ends with whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mesh.agents import Agents, RunningAgent, running_agents, until
from tests.transport.tcp_echo import TcpEcho
from tests.transport.tunnels import write_all
from transport.errors import ResetCode, StreamReset
from transport.identity import node_text
from transport.interface import Address, LinkState, NodeId
from transport.pipe import SocketPipe, connect
from transport.tunnel import Destination, TunnelListener
from transport.tunnel_message import Denial, ServiceRefused
from transport.tunnel_server import TunnelRequest

pytestmark = pytest.mark.live

RPC = "echo"  # not one of the agent's own
LEASE = "tiny@8f3c"
ANSWER_S = 60.0


@dataclass
class Worker:
    """Somebody's GPU: lets in who holds the lease in its present term."""

    holder: NodeId
    service: TcpEcho
    term: int = 4

    async def admit(self, request: TunnelRequest) -> Address:
        if request.peer.node != self.holder or request.lease != LEASE:
            raise ServiceRefused(Denial.NO_LEASE, "you hold no lease here")
        if request.term != self.term:
            raise ServiceRefused(Denial.NO_LEASE, f"term {request.term} is over, {self.term} holds")
        return self.service.address


@dataclass
class Mesh:
    agents: Agents
    host: RunningAgent
    far: RunningAgent
    worker: Worker

    def to_worker(self, term: int = 4) -> Destination:
        return Destination(self.far.node.footing.transport.node, RPC, LEASE, term)


@asynccontextmanager
async def leased(folder: Path) -> AsyncIterator[Mesh]:
    """A host and a worker that has granted it a lease."""
    async with running_agents(folder) as agents, TcpEcho() as service:
        host = await agents.start("host")
        far = await agents.start("worker", await host.token())
        await linked(host, far)
        mesh = Mesh(agents, host, far, Worker(host.node.footing.transport.node, service))
        yield mesh


async def linked(one: RunningAgent, other: RunningAgent) -> None:
    node = other.node.footing.transport.node
    await until(
        lambda: one.node.footing.transport.board.state(node) is LinkState.CONNECTED, f"{one.name} reaches {other.name}"
    )


async def says(pipe: SocketPipe, words: bytes) -> bool:
    """Whether `words` come back from an echo at the other end."""
    async with asyncio.timeout(ANSWER_S):
        await write_all(pipe, words)
        return await pipe.read(len(words)) == words


async def end_of(agent: RunningAgent, destination: Destination) -> Exception | None:
    """How a tunnel of `agent` ended that was to carry one connection."""
    async with agent.node.tunnels.client.listen(destination) as listener:
        return await failed(listener, await connect(listener.address))


async def failed(listener: TunnelListener, app: SocketPipe) -> Exception | None:
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(ANSWER_S):
            await app.read(1)
    app.close()
    await until(lambda: bool(listener.failures), "the tunnel ends")
    return listener.last_failure


async def test_holder_of_a_lease_talks_to_the_service_of_another_agent(tmp_path: Path) -> None:
    async with leased(tmp_path) as mesh:
        with mesh.far.node.tunnels.server.offer(RPC, mesh.worker.admit):
            async with mesh.host.node.tunnels.client.listen(mesh.to_worker()) as listener:
                apps = [await connect(listener.address) for _ in range(2)]
                assert [await says(app, b"hello") for app in apps] == [True, True]
                assert mesh.far.node.tunnels.server.tunnels == mesh.host.node.tunnels.client.tunnels == 2
                for app in apps:
                    await app.finish()
                    assert await app.read(1) == b""
                    app.close()
                await until(lambda: not mesh.far.node.tunnels.server.tunnels and not listener.tunnels, "both are over")
                assert not listener.failures
        assert (mesh.worker.service.accepted, mesh.worker.service.broken) == (2, 0)


async def test_without_a_service_a_lease_or_its_term_the_opener_is_told_so(tmp_path: Path) -> None:
    async with leased(tmp_path) as mesh:
        third = await mesh.agents.start("third", await mesh.host.token())
        await linked(third, mesh.far)
        nothing = await end_of(mesh.host, mesh.to_worker())
        with mesh.far.node.tunnels.server.offer(RPC, mesh.worker.admit):
            no_lease = await end_of(third, mesh.to_worker())
            stale = await end_of(mesh.host, mesh.to_worker(term=3))
        assert [error.code for error in (nothing, no_lease, stale) if isinstance(error, ServiceRefused)] == [
            *(Denial.NO_SERVICE, Denial.NO_LEASE, Denial.NO_LEASE)
        ]
        assert "you hold no lease here" in str(no_lease) and "term 3 is over, 4 holds" in str(stale)
        assert mesh.worker.service.accepted == 0


async def test_client_may_open_no_tunnel_whatever_it_says(tmp_path: Path) -> None:
    async with leased(tmp_path) as mesh:
        laptop = await mesh.agents.start("laptop", await mesh.host.token("client"), client=True)
        await linked(laptop, mesh.far)
        mesh.worker.holder = laptop.node.footing.transport.node
        with mesh.far.node.tunnels.server.offer(RPC, mesh.worker.admit):
            ending = await end_of(laptop, mesh.to_worker())
        assert isinstance(ending, StreamReset) and ending.code == ResetCode.FORBIDDEN
        assert mesh.worker.service.accepted == 0


async def test_closing_the_listener_ends_its_tunnels_at_both_agents(tmp_path: Path) -> None:
    async with leased(tmp_path) as mesh:
        served, carried = mesh.far.node.tunnels.server, mesh.host.node.tunnels.client
        with served.offer(RPC, mesh.worker.admit):
            async with carried.listen(mesh.to_worker()) as listener:
                app = await connect(listener.address)
                assert await says(app, b"hello")
            with pytest.raises(ConnectionResetError):
                await app.read(1)
            app.close()
            await until(lambda: not served.tunnels and mesh.worker.service.broken == 1, "the far end goes too")
            assert not carried.tunnels


async def test_withdrawing_the_service_ends_its_tunnels_at_both_agents(tmp_path: Path) -> None:
    async with leased(tmp_path) as mesh:
        served, carried = mesh.far.node.tunnels.server, mesh.host.node.tunnels.client
        async with carried.listen(mesh.to_worker()) as listener:
            with served.offer(RPC, mesh.worker.admit):
                app = await connect(listener.address)
                assert await says(app, b"hello")
            ending = await failed(listener, app)
            assert isinstance(ending, StreamReset) and ending.code == ResetCode.SHUTDOWN
            await until(lambda: not served.tunnels and mesh.worker.service.broken == 1, "the service's connection too")


async def test_revoked_holder_loses_its_tunnels(tmp_path: Path) -> None:
    async with leased(tmp_path) as mesh:
        worker = Worker(mesh.far.node.footing.transport.node, mesh.worker.service)
        to_owner = Destination(mesh.host.node.footing.transport.node, RPC, LEASE, 4)
        with mesh.host.node.tunnels.server.offer(RPC, worker.admit):
            async with mesh.far.node.tunnels.client.listen(to_owner) as listener:
                app = await connect(listener.address)
                assert await says(app, b"hello")
                await mesh.host.call("revoke", node=node_text(mesh.far.node.footing.transport.node))
                await failed(listener, app)
                await until(lambda: worker.service.broken == 1, "the service is rid of it")
