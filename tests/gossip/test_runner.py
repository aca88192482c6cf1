"""Runners over the memory transport, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.runner import PROTOCOL, GossipRunner
from gossip.timing import LAN
from gossip.view import Status, View
from tests.gossip.identities import UNIX_TIME, CheapVerifier, cheap_self
from transport.errors import MeshError, StreamReset
from transport.interface import LinkState, NodeId, Record, RecordKind, Role, Stream, StreamHeader
from transport.memory import DETECTION_S, MemoryNetwork, MemoryTransport
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

        def doubt(node: NodeId, reason: str) -> None:
            doubted.append(node)
            transport.doubt(node, reason)

        runner = GossipRunner(transport, engine, book, clock=loop.time, on_doubt=doubt)
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


async def _fenced(agent: Agent, stream: Stream) -> None:
    try:
        await agent.runner.serve(stream)
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


async def test_verdict_moves_a_link_to_reconnecting_before_the_transport_notices_by_itself() -> None:
    async with world(2) as here:
        agents = await here.mesh(5)
        await asyncio.sleep(10.0)
        here.kill(agents[4])
        rest, dead = agents[:4], agents[4].node

        def links() -> list[LinkState]:
            return [link.state for one in rest for link in one.transport.links() if link.node == dead]

        assert links() == [LinkState.CONNECTED] * 4
        await until(lambda: LinkState.RECONNECTING in links(), DETECTION_S - 3.0)
        assert any(dead in one.doubted for one in rest)
        await until(lambda: LinkState.CONNECTED not in links(), DETECTION_S)
        assert all(
            link.state is LinkState.CONNECTED for one in rest for link in one.transport.links() if link.node != dead
        )


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


async def test_a_closed_connection_is_a_hint_and_a_restart_finds_its_mesh_by_the_book(tmp_path: Path) -> None:
    async with world(4) as here:
        agents = await here.mesh(4)
        book = AddressBook(tmp_path / "addresses.json", lambda: UNIX_TIME)
        guest = here.start("guest", agents[0], book=book)
        everyone = [*agents, guest]
        await until(lambda: all(is_whole(one.runner.view, everyone) for one in everyone), 10.0)
        await until(lambda: len(book.load()) == 4, 10.0)
        guest.stop.set()
        # Its connections close, so nobody waits for a probe to come round.
        await until(lambda: all(one.status(guest.node) is Status.DEAD for one in agents), 6.0)
        here.kill(agents[0])
        back = here.start("guest", boot=2, book=book)
        rest = [*agents[1:], back]
        await until(lambda: all(is_whole(one.runner.view, rest) for one in rest), 30.0)


async def test_a_partition_heals_into_one_mesh() -> None:
    async with world(5) as here:
        agents = await here.mesh(4)
        left, right = agents[:2], agents[2:]
        for one in left:
            for other in right:
                here.network.cut(one.node, other.node)
        await until(lambda: all(one.status(other.node) is Status.DEAD for one in left for other in right), 20.0)
        for one in left:
            for other in right:
                here.network.mend(one.node, other.node)
        await until(lambda: all(is_whole(one.runner.view, agents) for one in agents), 40.0)


async def test_a_client_sees_the_route_summary() -> None:
    async with world(6) as here:
        agents = await here.mesh(3)
        client = here.start("laptop", agents[0], Role.CLIENT)
        members = {one.node for one in agents}
        await until(lambda: {entry.node for entry in client.runner.view.nodes[1:]} == members, 5.0)
        agents[1].runner.publish("models", b"new")
        node = agents[1].node
        await until(lambda: facts_of(client, node).get("models") == b"new", 5.0)
        await until(lambda: all(one.runner.view.get(client.node) is not None for one in agents), 10.0)
        entry = agents[0].runner.view.get(client.node)
        assert entry is not None
        assert (entry.role, entry.linked) == (Role.CLIENT, True)


async def test_leaving_is_heard_before_it_returns() -> None:
    async with world(7) as here:
        agents = await here.mesh(5)
        start = asyncio.get_running_loop().time()
        await agents[4].runner.leave()
        assert asyncio.get_running_loop().time() - start <= 2.0
        agents[4].stop.set()
        heard = [one for one in agents[:4] if one.status(agents[4].node) is Status.LEFT]
        assert len(heard) == 4
        await asyncio.sleep(15.0)
        assert all(one.status(agents[4].node) is Status.LEFT for one in agents[:4])
        assert all(link.node != agents[4].node for one in agents[:4] for link in one.transport.links())


async def test_changed_waits_for_the_next_view() -> None:
    async with world(8) as here:
        agents = await here.mesh(2)
        view = agents[0].runner.view
        assert await agents[0].runner.changed(view.version - 1) == agents[0].runner.view
        async with asyncio.timeout(5.0), asyncio.TaskGroup() as group:
            waiting = group.create_task(agents[0].runner.changed(agents[0].runner.view.version))
            await asyncio.sleep(0.1)
            agents[1].runner.publish("models", b"1")
        assert facts_of(agents[0], agents[1].node)["models"] == b"1"
        assert waiting.result().version > view.version


async def test_a_view_shows_round_trips_and_how_long_nodes_are_known() -> None:
    async with world(9) as here:
        agents = await here.mesh(2)
        await asyncio.sleep(20.0)
        entry = agents[0].runner.view.nodes[1]
        assert entry.rtt_ms == 20.0
        assert 19.0 <= entry.known_for_s <= 21.0


@pytest.mark.parametrize(
    "records",
    [
        [Record(RecordKind.MESSAGE, b"\xc1 not a message")],
        [Record(RecordKind.DATA, b"raw bytes")],
        [Record(RecordKind.MESSAGE, b"\x93\x03\x90\xc2")] * 200,
    ],
    ids=["malformed", "wrong kind", "endless"],
)
async def test_a_bad_exchange_costs_that_exchange_only(records: list[Record]) -> None:
    async with world(10) as here:
        agents = await here.mesh(3)
        stream = await agents[0].transport.open(agents[1].node, StreamHeader(PROTOCOL, "bad"))
        try:
            for record in records:
                await stream.send(record)
            await stream.finish()
            while await stream.receive() is not None:
                pass
        except MeshError:
            pass  # being cut off is one of the two right answers, an empty one is the other
        await asyncio.sleep(20.0)
        assert all(is_whole(one.runner.view, agents) for one in agents)
        judged = agents[1].runner.engine_counters["malformed"] + agents[1].runner.counters["fenced"]
        assert judged == 1


async def test_a_peer_that_opens_an_exchange_and_says_nothing_is_cut_off() -> None:
    async with world(11) as here:
        agents = await here.mesh(2)
        stream = await agents[0].transport.open(agents[1].node, StreamHeader(PROTOCOL, "silent"))
        with pytest.raises(StreamReset):
            async with asyncio.timeout(30.0):
                await stream.receive()
        assert agents[1].runner.counters["exchange_timed_out"] == 1


async def test_stopping_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    async with world(12) as here:
        agents = await here.mesh(2)
        book = AddressBook(tmp_path / "addresses.json", lambda: UNIX_TIME)
        guest = here.start("guest", agents[0], book=book)
        await until(lambda: len(guest.runner.view.nodes) == 3, 5.0)
        before = len(asyncio.all_tasks())
        guest.stop.set()
        await asyncio.sleep(1.0)
        assert len(asyncio.all_tasks()) < before
        assert not [task for task in asyncio.all_tasks() if "guest" in task.get_name()]
        # What it had learnt is on disk although the writer's delay was cut short.
        assert set(AddressBook(tmp_path / "addresses.json", lambda: UNIX_TIME).load()) == {one.node for one in agents}


def facts_of(one: Agent, node: NodeId) -> Mapping[str, bytes]:
    entry = one.runner.view.get(node)
    return entry.facts if entry is not None else {}
