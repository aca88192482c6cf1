"""`tunnel/1`: a byte pipe between a TCP connection here and a TCP service at a peer, which outlives a broken link.

`TunnelClient` listens on loopback and opens a tunnel for each connection it accepts; `TunnelServer` serves the other
end of those that peers open. When the link breaks, the end that opened brings a new stream, and both go on where
they were (`resumption`), with the same TCP connections. What is behind a service, and who may use it under which
lease, is for its `Connector` to say.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from transport.errors import MeshError, ProtocolError, ResetCode, TimedOut, Unreachable
from transport.identity import short
from transport.interface import Address, LinkState, NodeId, Peer, Stream, StreamHeader, Transport
from transport.link_board import Links
from transport.pipe import Pipe, SocketPipe
from transport.resumption import DEFAULT_WINDOW_BYTES, Patience, Resumption
from transport.tunnel_end import TunnelEnd
from transport.tunnel_message import PROTOCOL, Open, Position, Resume, read_attached, read_request, to_record

logger = logging.getLogger("meshd.transport")

FIRST_RECORD_S = 5.0
CONNECTOR_S = 10.0
RETRY_S = 0.1
"""Between tries to open a stream on a link that says it is connected: its state and its connection part for moments."""

MAX_CONNECTIONS = 32
"""Of one listener at once; those beyond wait in the kernel's backlog."""

LOOPBACK = Address("127.0.0.1", 0)


class ServiceRefused(MeshError):
    """What a `Connector` raises to say no: this peer, or this lease, may not use the service."""


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """What a peer wants to be connected to. lease: as the peer gave it, unchecked, at most 128 characters."""

    peer: Peer
    service: str
    lease: str


Connector = Callable[[TunnelRequest], Awaitable[Pipe]]
"""Connects a new tunnel to its service (`pipe.connect`), within 10 s. Raises ServiceRefused, or Unreachable."""


@dataclass(frozen=True, slots=True)
class TunnelOptions:
    """window_bytes: kept at most, each way, at each end of a tunnel.  max_*: served at once, waiting ones included."""

    window_bytes: int = DEFAULT_WINDOW_BYTES
    patience: Patience = field(default_factory=Patience)
    max_per_peer: int = 32
    max_served: int = 256


class TunnelServer:
    """The far end of the tunnels that peers open. Each lives in the task that serves its first stream."""

    def __init__(self, services: Mapping[str, Connector], links: Links, options: TunnelOptions | None = None) -> None:
        self._services = services
        self._links = links
        self._options = options or TunnelOptions()
        self._tunnels: dict[bytes, _Served] = {}
        self._per_peer: Counter[NodeId] = Counter()

    @property
    def tunnels(self) -> int:
        """How many are served now, those that wait for their peer included."""
        return len(self._tunnels)

    async def serve(self, stream: Stream) -> None:
        """Serve one stream of `tunnel/1`: a new tunnel to its end, or the next stream of one, handed over.

        Raises MeshError, as `TunnelEnd.run`.
        """
        request = await _first_request(stream)
        match request:
            case Open():
                await self._open(stream, request)
            case Resume():
                self._resume(stream, request)

    async def _open(self, stream: Stream, request: Open) -> None:
        known = self._tunnels.get(request.tunnel)
        if known is not None and known.node == stream.peer.node:
            known.offer(stream, Position(0, 0))  # its first stream broke before our answer arrived
            return
        connector = self._services.get(request.service)
        refusal = self._refusal(stream.peer.node, known, connector)
        if refusal is not None or connector is None:
            logger.info("refused node %s a tunnel to %r: %s", short(stream.peer.node), request.service, refusal)
            stream.reset(refusal or ResetCode.UNKNOWN_PROTOCOL)
            return
        served = self._tunnels[request.tunnel] = _Served(stream, request)
        self._per_peer[served.node] += 1
        try:
            await self._run(served, connector, TunnelRequest(stream.peer, request.service, request.lease))
        finally:
            served.close()
            del self._tunnels[request.tunnel]
            self._per_peer -= Counter({served.node: 1})

    async def _run(self, served: _Served, connector: Connector, request: TunnelRequest) -> None:
        try:
            pipe = await _connected(connector, request)
        except MeshError as error:
            served.close(ResetCode.FORBIDDEN if isinstance(error, ServiceRefused) else ResetCode.INTERNAL)
            raise
        machine = Resumption(asyncio.get_running_loop().time(), self._options.window_bytes, self._options.patience)
        served.end = TunnelEnd(pipe, machine, served.node, self._links, f"tunnel to {request.service!r} here")
        await served.end.run(served.attach)

    def _refusal(self, node: NodeId, known: _Served | None, connector: Connector | None) -> ResetCode | None:
        if connector is None:
            return ResetCode.UNKNOWN_PROTOCOL
        if known is not None:
            return ResetCode.FORBIDDEN
        if self._per_peer[node] >= self._options.max_per_peer or len(self._tunnels) >= self._options.max_served:
            return ResetCode.BUSY
        return None

    def _resume(self, stream: Stream, request: Resume) -> None:
        served = self._tunnels.get(request.tunnel)
        if served is None or served.node != stream.peer.node:
            # One answer for both: nobody learns whether another member's tunnel exists.
            logger.info("node %s resumes a tunnel that is not its own, or over", short(stream.peer.node))
            stream.reset(ResetCode.FORBIDDEN)
            return
        served.offer(stream, request.position)


async def _first_request(stream: Stream) -> Open | Resume:
    try:
        async with asyncio.timeout(FIRST_RECORD_S):
            return read_request(await stream.receive(), stream.peer.node)
    except TimeoutError as error:
        raise TimedOut(f"no tunnel request from node {short(stream.peer.node)} in {FIRST_RECORD_S:g} s") from error


async def _connected(connector: Connector, request: TunnelRequest) -> Pipe:
    try:
        async with asyncio.timeout(CONNECTOR_S):
            return await connector(request)
    except TimeoutError as error:
        raise TimedOut(f"the service {request.service!r} here did not connect in {CONNECTOR_S:g} s") from error


class _Served:
    """A tunnel of the server: whose it is, and the stream that is to carry it next."""

    def __init__(self, stream: Stream, request: Open) -> None:
        self.node = stream.peer.node
        self.end: TunnelEnd | None = None
        self._window_bytes = request.window
        self._offered: tuple[Stream, Position] | None = (stream, Position(0, 0))
        self._has_offer = asyncio.Event()
        self._has_offer.set()

    def offer(self, stream: Stream, position: Position) -> None:
        """Let `stream` replace whatever carries the tunnel or was to: the peer knows best which it has lost."""
        self.close()
        self._offered = (stream, position)
        self._has_offer.set()
        if self.end is not None:
            self.end.interrupt()

    def close(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """Reset a stream that was offered and not taken."""
        if self._offered is not None:
            self._offered[0].reset(code)
            self._offered = None

    async def attach(self, machine: Resumption) -> Stream:
        while self._offered is None:
            self._has_offer.clear()
            await self._has_offer.wait()  # the tunnel's patience is the deadline
        stream, position = self._offered
        self._offered = None
        try:
            machine.attach(position, self._window_bytes, asyncio.get_running_loop().time())
            await stream.send(to_record(machine.attached()))
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        return stream


class TunnelClient:
    """The near end of tunnels to services at peers."""

    def __init__(self, transport: Transport, links: Links, options: TunnelOptions | None = None) -> None:
        self._transport = transport
        self._links = links
        self._options = options or TunnelOptions()

    def listen(self, node: NodeId, service: str, lease: str = "", bind: Address = LOOPBACK) -> TunnelListener:
        """A listener whose every connection becomes a tunnel to `service` at `node`. Use as `async with`."""
        return TunnelListener(self, node, service, lease, bind)

    async def carry(self, pipe: Pipe, node: NodeId, service: str, lease: str = "") -> None:
        """Carry one connection to its end; owns `pipe`. Raises MeshError, as `TunnelEnd.run`."""
        machine = Resumption(asyncio.get_running_loop().time(), self._options.window_bytes, self._options.patience)
        opening = _Opening(self._transport, self._links, node, service, lease, self._options.window_bytes)
        end = TunnelEnd(pipe, machine, node, self._links, f"tunnel to {service}")
        await end.run(opening.attach)


class _Opening:
    """Brings the streams of one tunnel: the first, and another after every loss."""

    def __init__(
        self, transport: Transport, links: Links, node: NodeId, service: str, lease: str, window_bytes: int
    ) -> None:
        self._transport = transport
        self._links = links
        self._node = node
        self._open = Open(os.urandom(16), service, lease, window_bytes)
        self._header = StreamHeader(PROTOCOL, os.urandom(4).hex())
        self._has_opened = False

    async def attach(self, machine: Resumption) -> Stream:
        stream = await self._stream()
        try:
            request = Resume(self._open.tunnel, machine.position()) if self._has_opened else self._open
            await stream.send(to_record(request))
            answer = read_attached(await stream.receive(), self._node)
            machine.attach(answer.position, answer.window, asyncio.get_running_loop().time())
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        self._has_opened = True
        return stream

    async def _stream(self) -> Stream:
        """A new stream as soon as there is a link; the tunnel's patience is the deadline. Raises Unreachable."""
        while True:
            match self._links.state(self._node):
                case LinkState.CONNECTED:
                    try:
                        return await self._transport.open(self._node, self._header, bulk=True)
                    except Unreachable as error:
                        logger.debug("no stream for a tunnel yet: %s", error)
                    await asyncio.sleep(RETRY_S)
                case LinkState.RECONNECTING:
                    await self._links.changed()
                case LinkState.LOST | None:
                    raise Unreachable(f"no link with node {short(self._node)}")


class TunnelListener:
    """A listening TCP socket and the tunnels of its connections; leaving the block ends them all."""

    def __init__(self, client: TunnelClient, node: NodeId, service: str, lease: str, bind: Address) -> None:
        self._client = client
        self._node = node
        self._service = service
        self._lease = lease
        self._bind = bind
        self._group = asyncio.TaskGroup()
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: Counter[str] = Counter()
        """How tunnels ended that did not end well, by the error's name."""

    async def __aenter__(self) -> TunnelListener:
        family = socket.AF_INET6 if ":" in self._bind.host else socket.AF_INET
        self._socket = socket.create_server((self._bind.host, self._bind.port), family=family, backlog=MAX_CONNECTIONS)
        self._socket.setblocking(False)
        try:
            await self._group.__aenter__()
        except BaseException:
            self._socket.close()
            raise
        self._spawn(self._accept_all(), "accept")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            # The group is told of cancellation only: what else ends the block leaves it as itself, not in a group.
            if isinstance(error, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, trace)
            else:
                await self._group.__aexit__(None, None, None)
        finally:
            self._socket.close()

    @property
    def address(self) -> Address:
        """Where to connect to."""
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)

    @property
    def tunnels(self) -> int:
        """How many connections are carried now."""
        return len(self._tasks) - 1

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except OSError as error:  # out of descriptors, or the caller has gone already
                logger.warning("cannot accept a connection for %s: %s", self._service, error)
                self._places.release()
                await asyncio.sleep(RETRY_S)
                continue
            accepted.setblocking(False)
            self._spawn(self._carry(SocketPipe(accepted)), f"tunnel to {self._service}")

    async def _carry(self, pipe: SocketPipe) -> None:
        try:
            await self._client.carry(pipe, self._node, self._service, self._lease)
        except ProtocolError as error:
            self.failures[type(error).__name__] += 1
            logger.warning("%s", error)
        except MeshError as error:
            self.failures[type(error).__name__] += 1
            logger.info("%s", error)
        finally:
            self._places.release()

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
