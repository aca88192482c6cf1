"""Two nodes with a tunnel server on one of them, for tests over any transport."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from transport.errors import MeshError, ProtocolError, ResetCode
from transport.interface import Address, Links, LinkState, NodeId, Stream, Transport
from transport.memory import MemoryNetwork, MemoryTransport
from transport.memory_pipe import MemoryPipe, memory_pipes
from transport.pipe import Pipe
from transport.tunnel import Destination, TunnelClient
from transport.tunnel_end import TunnelOptions
from transport.tunnel_server import Admit, TunnelRequest, TunnelServer

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


async def read_digest(pipe: Pipe, digest: hashlib.blake2b, progress: Callable[[int], None]) -> int:
    count = 0
    while data := await pipe.read(PIECE_BYTES):
        digest.update(data)
        count += len(data)
        progress(count)
    return count


def unwatched(count: int) -> None:
    """For who does not want to know how far it is."""


async def echoed(pipe: Pipe, total_bytes: int, progress: Callable[[int], None] = unwatched) -> bool:
    """Send a pattern through an echo at the other end; whether the same came back, whole.

    progress: told how many bytes have.
    """
    sent, got = hashlib.blake2b(), hashlib.blake2b()
    async with asyncio.TaskGroup() as group:
        group.create_task(send_pattern(pipe, total_bytes, sent))
        count = await read_digest(pipe, got, progress)
    return count == total_bytes and sent.digest() == got.digest()


@dataclass
class Node:
    """A transport, and what became of the streams that peers opened on it."""

    transport: Transport
    endings: list[MeshError] = field(default_factory=list)

    @property
    def links(self) -> Links:
        return self.transport.board

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
    offers: ExitStack
    services: dict[str, Admit]
    echo: EchoService
    group: asyncio.TaskGroup
    serving: asyncio.Task[None]
    network: MemoryNetwork = field(init=False)
    """Of pairs made by `memory_pair`, as the methods that cut and lose are."""

    def offer(self, service: str, admit: Admit) -> None:
        """Until the test ends."""
        self.services[service] = admit
        self.offers.enter_context(self.server.offer(service, admit))

    def to(self, service: str, lease: str = "lease-7", term: int = 7) -> Destination:
        return Destination(self.far.transport.node, service, lease, term)

    async def restart_server(self) -> None:
        """Forget every tunnel at the far end, as a new process there would."""
        self.serving.cancel()
        await asyncio.wait([self.serving])
        self.server = TunnelServer(self.far.links)
        for service, admit in self.services.items():
            self.offers.enter_context(self.server.offer(service, admit))
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
    with ExitStack() as offers:
        async with asyncio.TaskGroup() as group:
            echo_service = EchoService(group)
            server = TunnelServer(other.links, options)
            serving = group.create_task(other.serve(server))
            near.keep(far.node, to_far)
            far.keep(near.node, to_near)
            await one.until(far.node, LinkState.CONNECTED)
            await other.until(near.node, LinkState.CONNECTED)
            client = TunnelClient(near, options)
            pair = Pair(one, other, client, server, offers, {}, echo_service, group, serving)
            pair.offer("echo", echo_service)
            try:
                yield pair
            finally:
                pair.serving.cancel()


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
