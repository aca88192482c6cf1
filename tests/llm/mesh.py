"""A few nodes in one process over the memory transport: the first asks, the others host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from gossip.view import NodeView, Status, View
from llm.changes import Changes
from llm.client import Router
from llm.engines.interface import Engine
from llm.host import Host, ServedModel
from llm.offer import MODELS_FACT, encode_offers
from tests.llm.views import FILE_A, node_id
from transport.errors import ProtocolError
from transport.interface import LinkState, NodeId, Role
from transport.memory import MemoryNetwork, MemoryTransport


class Views:
    """A `llm.client.Views` that a test replaces by hand."""

    def __init__(self) -> None:
        self.view = View(0, ())
        self._changes = Changes()

    def show(self, *nodes: NodeView) -> None:
        self.view = View(self.view.version + 1, nodes)
        self._changes.notify()

    async def changed(self, after_version: int) -> View:
        while self.view.version <= after_version:
            await self._changes.wait()
        return self.view


class Node:
    """One node, named n1, n2, …"""

    def __init__(
        self, number: int, transport: MemoryTransport, engines: Mapping[str, Engine], queue_limit: int
    ) -> None:
        self.name = f"n{number}"
        self.transport = transport
        self.host = Host([ServedModel(name, engine, FILE_A, "", queue_limit) for name, engine in engines.items()])
        self.views = Views()
        self.hints: list[tuple[NodeId, str]] = []
        self.router = Router(self.host, transport, self.views, lambda node, reason: self.hints.append((node, reason)))
        self.offences: list[ProtocolError] = []

    @property
    def id(self) -> NodeId:
        return self.transport.node

    @property
    def in_flight(self) -> int:
        return sum(offer.in_flight for offer in self.host.offers())

    def seen(self, *, status: Status = Status.ALIVE) -> NodeView:
        """This node as gossip would show it to others now."""
        facts = {MODELS_FACT: encode_offers(self.host.offers())}
        return NodeView(self.id, self.name, Role.MEMBER, status, 1, 0, (), facts, 1.0, True, 60.0)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for stream in self.transport.streams():
                group.create_task(self._serve(stream))

    async def _serve(self, stream) -> None:  # type: ignore[no-untyped-def]
        try:
            await self.host.serve(stream)
        except ProtocolError as error:
            self.offences.append(error)


@asynccontextmanager
async def mesh(
    *engines: Mapping[str, Engine],
    delay_s: float = 0.001,
    queue_limit: int = 64,
    window_bytes: int = 1 << 20,
    role: Role = Role.MEMBER,
) -> AsyncIterator[list[Node]]:
    """Nodes with those engines, connected, serving, and known to each other. role: the first one's."""
    network = MemoryNetwork(delay_s=delay_s)
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for number, models in enumerate(engines, start=1):
            transport = network.transport(
                node_id(number), role if number == 1 else Role.MEMBER, name=f"n{number}", window_bytes=window_bytes
            )
            nodes.append(Node(number, await stack.enter_async_context(transport), models, queue_limit))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(node.serve()) for node in nodes]
            tasks += [group.create_task(node.host.run(publish_nothing)) for node in nodes]
            await connect_all(nodes)
            show_all(nodes)
            yield nodes
            for task in tasks:
                task.cancel()


def publish_nothing(fact: bytes, *, is_urgent: bool) -> None:
    """Tests show views by hand."""


async def connect_all(nodes: list[Node]) -> None:
    for one in nodes:
        for other in nodes:
            if one is not other:
                one.transport.keep(other.id, other.transport.addresses)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(connected_to_all(node, len(nodes) - 1))


async def connected_to_all(node: Node, others: int) -> None:
    """Wait until `node` has that many live links."""
    if is_connected_to_all(node, others):
        return
    async for _ in node.transport.events():
        if is_connected_to_all(node, others):
            return


def is_connected_to_all(node: Node, others: int) -> bool:
    return sum(link.state is LinkState.CONNECTED for link in node.transport.links()) == others


def show_all(nodes: list[Node]) -> None:
    """Let every node see every other as it is now."""
    for node in nodes:
        node.views.show(node.seen(), *(other.seen() for other in nodes if other is not node))
