"""`tunnel/1`: a byte pipe between a TCP connection here and a TCP service at a peer, which outlives a broken link.

`TunnelClient` listens on loopback and opens a tunnel for each connection it accepts; `tunnel_server` has the other
end. When the link breaks, the end that opened brings a new stream, and both go on where they were (`resumption`),
with the same TCP connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType

from transport.errors import MeshError, ProtocolError, ResetCode, Unreachable
from transport.identity import short
from transport.interface import Address, LinkState, NodeId, Stream, StreamHeader, Transport
from transport.pipe import Pipe, SocketPipe
from transport.resumption import Resumption
from transport.tunnel_end import TunnelEnd, TunnelOptions
from transport.tunnel_message import (
    MAX_REASON_LENGTH,
    PROTOCOL,
    Denial,
    Denied,
    Open,
    Resume,
    ServiceRefused,
    read_answer,
    to_record,
)
from transport.wire import printable

logger = logging.getLogger("meshd.transport")

RETRY_S = 0.1
"""Between tries to open a stream on a link that says it is connected: its state and its connection part for moments."""

MAX_CONNECTIONS = 32
"""Of one listener at once; those beyond wait in the kernel's backlog."""

LOOPBACK = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a tunnel goes: a service at a peer. lease, term: by what right; whoever offers the service judges them."""

    node: NodeId
    service: str
    lease: str = ""
    term: int = 0


class TunnelClient:
    """The near end of tunnels to services at peers."""

    def __init__(self, transport: Transport, options: TunnelOptions | None = None) -> None:
        self._transport = transport
        self._options = options or TunnelOptions()
        self._carried = 0

    @property
    def tunnels(self) -> int:
        """How many are carried now, those that wait for their peer included."""
        return self._carried

    def listen(self, destination: Destination, bind: Address = LOOPBACK) -> TunnelListener:
        """A listener whose every connection becomes a tunnel. Use as `async with`; leaving the block ends them all."""
        return TunnelListener(self, destination, bind)

    async def carry(self, pipe: Pipe, destination: Destination) -> None:
        """Carry one connection to its end; owns `pipe`.

        Raises ServiceRefused when the peer says no, or too many are carried here; MeshError, as `TunnelEnd.run`.
        """
        if self._carried >= self._options.max_carried:
            pipe.abort()
            raise ServiceRefused(Denial.BUSY, f"this node carries {self._carried} tunnels already")
        machine = Resumption(asyncio.get_running_loop().time(), self._options.window_bytes, self._options.patience)
        opening = _Opening(self._transport, destination, self._options.window_bytes)
        label = f"tunnel to {destination.service!r}"
        self._carried += 1
        try:
            await TunnelEnd(pipe, machine, destination.node, self._transport.board, label).run(opening.attach)
        finally:
            self._carried -= 1


class _Opening:
    """Brings the streams of one tunnel: the first, and another after every loss."""

    def __init__(self, transport: Transport, to: Destination, window_bytes: int) -> None:
        self._transport = transport
        self._node = to.node
        self._open = Open(os.urandom(16), to.service, to.lease, window_bytes, to.term)
        self._header = StreamHeader(PROTOCOL, os.urandom(4).hex())
        self._has_opened = False

    async def attach(self, machine: Resumption) -> Stream:
        stream = await self._stream()
        try:
            request = Resume(self._open.tunnel, machine.position()) if self._has_opened else self._open
            await stream.send(to_record(request))
            answer = read_answer(await stream.receive(), self._node)
            if isinstance(answer, Denied):
                raise self._refusal(answer)
            machine.attach(answer.position, answer.window, asyncio.get_running_loop().time())
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        self._has_opened = True
        return stream

    def _refusal(self, denied: Denied) -> ServiceRefused:
        said = printable(denied.reason, MAX_REASON_LENGTH)
        return ServiceRefused(denied.code, f"node {short(self._node)} refuses a tunnel ({denied.code}): {said}")

    async def _stream(self) -> Stream:
        """A new stream as soon as there is a link; the tunnel's patience is the deadline. Raises Unreachable."""
        while True:
            match self._transport.board.state(self._node):
                case LinkState.CONNECTED:
                    try:
                        return await self._transport.open(self._node, self._header, bulk=True)
                    except Unreachable as error:
                        logger.debug("no stream for a tunnel yet: %s", error)
                    await asyncio.sleep(RETRY_S)
                case LinkState.RECONNECTING:
                    await self._transport.board.changed()
                case LinkState.LOST | None:
                    raise Unreachable(f"no link with node {short(self._node)}")


class TunnelListener:
    """A listening TCP socket and the tunnels of its connections; leaving the block ends them all."""

    def __init__(self, client: TunnelClient, destination: Destination, bind: Address) -> None:
        self._client = client
        self._destination = destination
        self._bind = bind
        self._group = asyncio.TaskGroup()
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: Counter[str] = Counter()
        """How tunnels ended that did not end well, by the error's name."""
        self.last_failure: MeshError | None = None

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
                logger.warning("cannot accept a connection for %s: %s", self._destination.service, error)
                self._places.release()
                await asyncio.sleep(RETRY_S)
                continue
            accepted.setblocking(False)
            self._spawn(self._carry(SocketPipe(accepted)), f"tunnel to {self._destination.service}")

    async def _carry(self, pipe: SocketPipe) -> None:
        try:
            await self._client.carry(pipe, self._destination)
        except MeshError as error:
            self.failures[type(error).__name__] += 1
            self.last_failure = error
            logger.log(logging.WARNING if isinstance(error, ProtocolError) else logging.INFO, "%s", error)
        finally:
            self._places.release()

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
