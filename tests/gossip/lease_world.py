"""Hosts and workers of leases over the memory transport, in virtual time: real drivers, deciders and files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gossip.fence_book import FenceBook
from gossip.grant import Room, any_room
from gossip.lease import CLAIMS, Candidate, Claim, Election, Yield, encode_claims
from gossip.lease_keeper import LeaseKeeper
from gossip.lease_message import LeaseKind, lease_text
from gossip.lease_service import LeaseService
from gossip.tenure import Hold
from gossip.view import NodeView, Status, View
from tests.gossip.leases import ALICE, BOB, GIB, MODEL
from transport.errors import MeshError, ProtocolError, ResetCode
from transport.interface import LinkState, NodeId, Peer, Role, Stream
from transport.memory import MemoryNetwork, MemoryTransport

VICTOR, WORKER = NodeId(b"v" * 32), NodeId(b"w" * 32)


@dataclass
class Clock:
    """A node's own: it runs at `rate`, and jumps."""

    rate: float = 1.0
    jumped_s: float = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() * self.rate + self.jumped_s


@dataclass
class Node:
    """One node, host and worker at once. sees: whose claims reach it."""

    world: World
    transport: MemoryTransport
    path: Path
    room: Room = any_room
    boot: int = 1
    clock: Clock = field(default_factory=Clock)
    claims: list[Claim] = field(default_factory=list)
    stale: list[tuple[str, int]] = field(default_factory=list)
    blind_to: set[NodeId] = field(default_factory=set)
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    election: Election = field(default_factory=Election)

    def __post_init__(self) -> None:
        self.awake.set()
        self.keeper = LeaseKeeper(self.transport, self.clock, self._is_stale)
        self.start_worker()

    @property
    def id(self) -> NodeId:
        return self.transport.node

    def start_worker(self) -> None:
        """Also again, as after a crash: what is on disk is all that is left."""
        self.book = FenceBook(self.path, self.id)
        self.service = LeaseService(self.book, self.view, self.clock, self.room)

    def _is_stale(self, resource: str, term: int) -> None:
        self.stale.append((resource, term))
        self.election.refused(resource, term)

    def view(self) -> View:
        nodes = [node for node in self.world.nodes.values() if node is not self]
        return View(1, (self._shown(self), *map(self._shown, nodes)))

    def _shown(self, node: Node) -> NodeView:
        is_gone = node.id in self.blind_to
        status = Status.DEAD if is_gone else Status.ALIVE
        facts = {CLAIMS: encode_claims([] if is_gone else node.claims)}
        return NodeView(node.id, "", Role.MEMBER, status, 1, 0, (), facts, None, True, 100.0)

    def claim(self, term: int, *workers: NodeId, purpose: LeaseKind = "work", after_s: float = 0.0) -> None:
        """Claim the model in `term` and want leases of exactly these."""
        self.claims = [Claim(MODEL, term, GIB, self.id)]
        self.keeper.hold(Hold(MODEL, purpose, term, dict.fromkeys(workers, GIB), after_s))

    def elect(self, *workers: NodeId) -> None:
        """One round of the election, for hosts alike in all but their id."""
        candidates = [Candidate(host, GIB, True) for host in (ALICE, BOB)]
        match self.election.decide(MODEL, candidates, self.view(), self.clock()):
            case Claim(_, term):
                self.claim(term, *workers)
            case Yield():
                self.claims = []
                self.keeper.hold(Hold(MODEL, "work", 1, {}))

    def leases(self, purpose: LeaseKind = "work") -> set[NodeId]:
        return set(self.keeper.leases(MODEL, purpose))

    async def until(self, holds: Callable[[], bool], limit_s: float = 30.0) -> None:
        async with asyncio.timeout(limit_s):
            while not holds():  # noqa: ASYNC110 - virtual time, and also conditions that nobody announces
                await asyncio.sleep(0.05)

    async def until_leased(self, *workers: NodeId, limit_s: float = 30.0) -> None:
        await self.until(lambda: self.leases() == set(workers), limit_s)

    def serves(self, host: Node) -> bool:
        """Whether a lease that `host` believes in counts here."""
        lease = host.keeper.leases(MODEL).get(self.id)
        peer = Peer(host.id, Role.MEMBER, host.boot, "", b"")
        return lease is not None and self.service.find(peer, lease_text(lease.lease, lease.term)) is not None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run())
            group.create_task(self.run_worker())
            async for stream in self.transport.streams():
                group.create_task(self._serve(stream))

    async def run_worker(self) -> None:
        """Runs on with whatever service there is after a restart."""
        while True:
            service, book = self.service, self.book
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(service.run()), group.create_task(book.run())]
                while self.service is service:  # noqa: ASYNC110 - a test swaps it
                    await asyncio.sleep(0.01)
                for task in tasks:
                    task.cancel()

    async def _serve(self, stream: Stream) -> None:
        await self.awake.wait()
        try:
            await self.service.serve(stream)
        except ProtocolError:
            stream.reset(ResetCode.PROTOCOL_ERROR)
        except MeshError:
            stream.reset(ResetCode.CANCELLED)


class World:
    """All nodes, linked with each other."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.nodes: dict[NodeId, Node] = {}

    def __getitem__(self, node: NodeId) -> Node:
        return self.nodes[node]

    def skip(self, seconds: float) -> None:
        """Time passes on every clock, and nobody does anything: whoever had nothing to do does not notice."""
        for node in self.nodes.values():
            node.clock.jumped_s += seconds * node.clock.rate

    def part(self, some: Iterable[NodeId], others: Iterable[NodeId]) -> None:
        for one in some:
            for other in others:
                self.network.cut(one, other)
                self[one].blind_to.add(other)
                self[other].blind_to.add(one)

    def heal(self) -> None:
        for one in self.nodes.values():
            for other in one.blind_to:
                if one.id < other:
                    self.network.mend(one.id, other)
            one.blind_to = set()


@asynccontextmanager
async def world(folder: Path, *names: NodeId, room: Room = any_room, delay_s: float = 0.01) -> AsyncIterator[World]:
    """These nodes, running and connected."""
    network = MemoryNetwork(seed=1, delay_s=delay_s)
    made = World(network)
    async with asyncio.TaskGroup() as group:
        transports = [network.transport(name) for name in names]
        for transport in transports:
            await transport.__aenter__()
            made.nodes[transport.node] = Node(made, transport, folder / transport.node[:1].decode(), room)
        tasks = [group.create_task(node.run()) for node in made.nodes.values()]
        for one in transports:
            for other in transports:
                if one is not other:
                    one.keep(other.node, other.addresses)
        async with asyncio.timeout(60):
            while not all(_is_linked(one, len(names) - 1) for one in transports):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            for transport in transports:
                await transport.__aexit__(None, None, None)


def _is_linked(transport: MemoryTransport, others: int) -> bool:
    return sum(link.state is LinkState.CONNECTED for link in transport.links()) == others
