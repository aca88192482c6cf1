"""Runners over the memory transport, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.runner import PROTOCOL, GossipRunner
from gossip.timing import LAN
from gossip.view import Status, View
from tests.gossip.identities import CheapVerifier, cheap_self
from transport.errors import MeshError
from transport.interface import NodeId, Role
from transport.memory import MemoryNetwork, MemoryTransport
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


@dataclass(eq=False)
class Agent:
    """One node: a transport, a runner, and the task that both run in."""

    transport: MemoryTransport
    runner: GossipRunner
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    doubted: list[NodeId] = field(default_factory=list)

    @property
    def node(self) -> NodeId:
        return self.transport.node

    def status(self, node: NodeId) -> Status | None:
        entry = self.runner.view.get(node)
        return entry.status if entry is not None else None


class World:
    """Agents on one memory network; the group ends them all."""

    def __init__(self, group: asyncio.TaskGroup, seed: int) -> None:
        self.network = MemoryNetwork(seed, delay_s=0.01)
        self.seed = seed
        self._group = group
        self.agents: list[Agent] = []

    def start(
        self,
        name: str,
        introducer: Agent | None = None,
        role: Role = Role.MEMBER,
        boot: int = 1,
        book: AddressBook | None = None,
    ) -> Agent:
        loop = asyncio.get_running_loop()
        transport = self.network.transport(cheap_self(name).node, role, name, boot)
        me = cheap_self(name, role, boot, transport.addresses)
        engine = Engine(me, CheapVerifier(), LAN, random.Random(f"{self.seed} {name} {boot}"), loop.time())
        doubted: list[NodeId] = []
        runner = GossipRunner(transport, engine, book, clock=loop.time, on_doubt=lambda node, _: doubted.append(node))
        agent = Agent(transport, runner, doubted=doubted)
        if role is not Role.CLIENT:
            runner.publish("sys", name.encode())
        if introducer is not None:
            runner.seed([(introducer.node, introducer.transport.addresses)])
        self.agents.append(agent)
        self._group.create_task(_live(agent), name=name)
        return agent

    async def mesh(self, count: int) -> list[Agent]:
        first = self.start("node0")
        agents = [first, *(self.start(f"node{index}", first) for index in range(1, count))]
        await until(lambda: all(is_whole(one.runner.view, agents) for one in agents), 10.0)
        return agents

    def kill(self, agent: Agent) -> None:
        agent.transport.kill()
        agent.stop.set()


async def _live(agent: Agent) -> None:
    async with agent.transport, asyncio.TaskGroup() as group:
        running = group.create_task(agent.runner.run())
        serving = group.create_task(_serve(agent))
        await agent.stop.wait()
        running.cancel()
        serving.cancel()


async def _serve(agent: Agent) -> None:
    async with asyncio.TaskGroup() as group:
        async for stream in agent.transport.streams():
            assert stream.header.protocol == PROTOCOL
            group.create_task(_fenced(agent, stream))


async def _fenced(agent: Agent, stream: object) -> None:
    try:
        await agent.runner.serve(stream)  # type: ignore[arg-type]
    except MeshError:
        agent.runner.counters["fenced"] += 1


@asynccontextmanager
async def world(seed: int) -> AsyncIterator[World]:
    """A network and its agents, all stopped at the end."""
    print(f"seed {seed}")
    async with asyncio.TaskGroup() as group:
        here = World(group, seed)
        yield here
        for agent in here.agents:
            agent.stop.set()


async def until(condition: Callable[[], bool], limit_s: float) -> float:
    """Wait, in virtual time, until `condition` holds; how long it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.timeout(limit_s):
        # The condition spans many runners, and virtual time makes asking again free.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return loop.time() - start


def is_whole(view: View, agents: list[Agent]) -> bool:
    """Whether `view` shows exactly these agents alive, with their facts."""
    alive = {entry.node: entry for entry in view.nodes if entry.status is Status.ALIVE}
    return alive.keys() == {one.node for one in agents} and all("sys" in entry.facts for entry in alive.values())


async def test_five_members_find_each_other_through_one() -> None:
    async with world(1) as here:
        agents = await here.mesh(5)
        await until(lambda: all(all(entry.linked for entry in one.runner.view.nodes[1:]) for one in agents), 20.0)
        for one in agents:
            view = one.runner.view
            assert view.me.node == one.node
            assert [entry.node for entry in view.nodes[1:]] == sorted(
                other.node for other in agents if other is not one
            )


async def test_a_killed_member_is_dead_in_all_views_within_nine_seconds() -> None:
    async with world(2) as here:
        agents = await here.mesh(5)
        await asyncio.sleep(10.0)
        here.kill(agents[4])
        rest = agents[:4]
        await until(lambda: all(one.status(agents[4].node) is Status.DEAD for one in rest), 9.0)
        assert all(one.status(other.node) is Status.ALIVE for one in rest for other in rest)
        await until(lambda: any(agents[4].node in one.doubted for one in rest), 1.0)


async def test_a_fact_reaches_everyone() -> None:
    async with world(3) as here:
        agents = await here.mesh(5)
        agents[2].runner.publish("models", b"small")
        agents[2].runner.publish("large", b"x" * 60_000)
        node = agents[2].node

        def has(one: Agent) -> bool:
            entry = one.runner.view.get(node)
            return (
                entry is not None
                and entry.facts.get("models") == b"small"
                and len(entry.facts.get("large", b"")) == 60_000
            )

        await until(lambda: all(map(has, agents)), 5.0)
