"""Two nodes with a tunnel server on one of them, for tests over any transport."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from transport.errors import MeshError, ProtocolError, ResetCode
from transport.interface import Address, LinkChanged, LinkState, NodeId, Stream, Transport
from transport.link_board import LinkBoard
from transport.memory import MemoryNetwork, MemoryTransport
from transport.memory_pipe import MemoryPipe, memory_pipes
from transport.pipe import Pipe
from transport.tunnel import Connector, TunnelClient, TunnelOptions, TunnelRequest, TunnelServer

A = NodeId(b"\x01" * 32)
B = NodeId(b"\x02" * 32)
C = NodeId(b"\x03" * 32)
WAIT_S = 60.0
PIECE_BYTES = 64 << 10

Ways = tuple[tuple[Address, ...], tuple[Address, ...]]
"""Where the near node finds the far one, and the far one the near."""


async def write_all(pipe: Pipe, data: bytes) -> None:
    while data:
        data = data[await pipe.write(data) :]


async def echo(pipe: Pipe) -> None:
    """Give everything back, then end as the other end did."""
    while data := await pipe.read(PIECE_BYTES):
        await write_all(pipe, data)
    await pipe.finish()


async def send_pattern(pipe: Pipe, total_bytes: int, digest: hashlib.blake2b) -> None:
    """Bytes that tell their place: a lost, doubled or moved piece changes the digest."""
    for number in range(total_bytes // PIECE_BYTES):
        piece = number.to_bytes(8, "big") * (PIECE_BYTES // 8)
        digest.update(piece)
        await write_all(pipe, piece)
    await pipe.finish()


async def read_digest(pipe: Pipe, digest: hashlib.blake2b) -> int:
    count = 0
    while data := await pipe.read(PIECE_BYTES):
        digest.update(data)
        count += len(data)
    return count


async def echoed(pipe: Pipe, total_bytes: int) -> bool:
    """Send a pattern through an echo at the other end; whether the same came back, whole."""
    sent, got = hashlib.blake2b(), hashlib.blake2b()
    async with asyncio.TaskGroup() as group:
        group.create_task(send_pattern(pipe, total_bytes, sent))
        count = await read_digest(pipe, got)
    return count == total_bytes and sent.digest() == got.digest()


@dataclass
class Node:
    """A transport with its link board, and what became of the streams that peers opened on it."""

    transport: Transport
    links: LinkBoard = field(default_factory=LinkBoard)
    endings: list[MeshError] = field(default_factory=list)

    async def follow_links(self) -> None:
        async for event in self.transport.events():
            if isinstance(event, LinkChanged):
                self.links.heard(event)

    async def serve(self, server: TunnelServer) -> None:
        """Does what `meshd.dispatch` does, and keeps the errors."""
        async with asyncio.TaskGroup() as group:
            async for stream in self.transport.streams():
                group.create_task(self._serve_one(server, stream))

    async def _serve_one(self, server: TunnelServer, stream: Stream) -> None:
        try:
            await server.serve(stream)
        except MeshError as error:
            stream.reset(ResetCode.PROTOCOL_ERROR if isinstance(error, ProtocolError) else ResetCode.CANCELLED)
            self.endings.append(error)

    async def until(self, node: NodeId, state: LinkState) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.links.state(node) is not state:
                await self.links.changed()


@dataclass
class EchoService:
    """Connects every tunnel to an echo. connections: how often it was asked to."""

    group: asyncio.TaskGroup
    requests: list[TunnelRequest] = field(default_factory=list)

    async def __call__(self, request: TunnelRequest) -> MemoryPipe:
        self.requests.append(request)
        near, far = memory_pipes()
        self.group.create_task(self._echo(far))
        return near

    async def _echo(self, pipe: MemoryPipe) -> None:
        try:
            await echo(pipe)
        except ConnectionError:
            return


@dataclass
class Pair:
    """near opens tunnels, far serves them."""

    near: Node
    far: Node
    client: TunnelClient
    server: TunnelServer
    services: dict[str, Connector]
    echo: EchoService
    group: asyncio.TaskGroup
    serving: asyncio.Task[None]
    network: MemoryNetwork = field(init=False)
    """Of pairs made by `memory_pair`, as the methods that cut and lose are."""

    async def restart_server(self) -> None:
        """Forget every tunnel at the far end, as a new process there would."""
        self.serving.cancel()
        await asyncio.wait([self.serving])
        self.server = TunnelServer(self.services, self.far.links)
        self.serving = self.group.create_task(self.far.serve(self.server))

    def cut(self) -> None:
        self.network.cut(A, B)

    def mend(self) -> None:
        self.network.mend(A, B)

    def lose_connection(self) -> None:
        """Let both ends find out that nothing comes any more, as quic does after 4 s of silence."""
        for one, other in ((self.near, self.far), (self.far, self.near)):
            assert isinstance(one.transport, MemoryTransport)
            one.transport.lose(other.transport.node, "no sign of life")


@asynccontextmanager
async def wired(
    near: Transport, far: Transport, ways: Ways | None = None, options: TunnelOptions | None = None
) -> AsyncIterator[Pair]:
    """Two transports, connected, with everything that tunnels need around them; all of it ends with the block."""
    to_far, to_near = ways or (far.addresses, near.addresses)
    one, other = Node(near), Node(far)
    async with asyncio.TaskGroup() as group:
        echo_service = EchoService(group)
        services: dict[str, Connector] = {"echo": echo_service}
        server = TunnelServer(services, other.links, options)
        following = [group.create_task(node.follow_links()) for node in (one, other)]
        serving = group.create_task(other.serve(server))
        near.keep(far.node, to_far)
        far.keep(near.node, to_near)
        await one.until(far.node, LinkState.CONNECTED)
        await other.until(near.node, LinkState.CONNECTED)
        client = TunnelClient(near, one.links, options)
        pair = Pair(one, other, client, server, services, echo_service, group, serving)
        try:
            yield pair
        finally:
            for task in (*following, pair.serving):
                task.cancel()


@asynccontextmanager
async def memory_pair(
    delay_s: float = 0.005, options: TunnelOptions | None = None, seed: int = 1
) -> AsyncIterator[Pair]:
    network = MemoryNetwork(seed, delay_s)
    async with (
        network.transport(A) as near,
        network.transport(B) as far,
        wired(near, far, options=options) as pair,
    ):
        pair.network = network
        yield pair
