"""The far end of `tunnel/1`: services that peers may be connected to, and the tunnels to them.

What is behind a service, and who may use it under which lease, is for its `Admit` to say; who may open a stream of
`tunnel/1` at all is for the agent, before it is handed to `serve`. `tunnel` has the end that opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from transport.errors import MeshError, ResetCode, StreamReset, TimedOut, Unreachable
from transport.identity import short
from transport.interface import Address, Links, NodeId, Peer, Stream
from transport.pipe import Pipe, connect
from transport.resumption import Resumption
from transport.tunnel_end import ServiceEnded, TunnelEnd, TunnelOptions
from transport.tunnel_message import (
    MAX_REASON_LENGTH,
    Denial,
    Denied,
    Open,
    Position,
    Request,
    Resume,
    ServiceRefused,
    read_request,
    to_record,
)

logger = logging.getLogger("meshd.transport")

FIRST_RECORD_S = 5.0
ADMIT_S = 10.0
DENIED_S = 5.0
"""How long a stream stays open for its opener to read why there is no tunnel."""


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """What a peer wants to be connected to. lease, term: as the peer gave them, unchecked; empty and 0 for none."""

    peer: Peer
    service: str
    lease: str
    term: int


Admit = Callable[[TunnelRequest], Awaitable[Address | Pipe]]
"""Says what to connect a new tunnel to, within 10 s: a TCP service on this machine, or a pipe that is connected.

Raises ServiceRefused to say no, with words that the peer is told; Unreachable when the service is down.
"""


class TunnelServer:
    """The services that this node offers, and their tunnels. Each lives in the task that serves its first stream."""

    def __init__(self, links: Links, options: TunnelOptions | None = None) -> None:
        self._links = links
        self._options = options or TunnelOptions()
        self._services: dict[str, Admit] = {}
        self._tunnels: dict[bytes, _Served] = {}
        self._per_peer: Counter[NodeId] = Counter()

    @property
    def tunnels(self) -> int:
        """How many are served now, those that wait for their peer included."""
        return len(self._tunnels)

    @contextlib.contextmanager
    def offer(self, service: str, admit: Admit) -> Iterator[None]:
        """Serve tunnels to `service` while the block lasts; leaving it ends them with ServiceEnded.

        ValueError when it is offered already.
        """
        if service in self._services:
            raise ValueError(f"the tunnel service {service!r} is offered already")
        self._services[service] = admit
        try:
            yield
        finally:
            del self._services[service]
            for served in self._tunnels.values():
                if served.request.service == service:
                    served.stop(ServiceEnded(f"the tunnel service {service!r} here has ended"))

    async def serve(self, stream: Stream) -> None:
        """Serve one stream of `tunnel/1`: a new tunnel to its end, or the next stream of one, handed over.

        A refusal is told to the peer and logged. Raises MeshError, as `TunnelEnd.run`.
        """
        request = await _first_request(stream)
        known = self._tunnels.get(request.tunnel)
        is_theirs = known is not None and known.request.peer.node == stream.peer.node
        if known is not None and is_theirs:
            # The first stream of an Open may have broken before our answer arrived.
            known.offer(stream, request.position if isinstance(request, Resume) else Position(0, 0))
        elif known is not None or isinstance(request, Resume):
            # One answer for both: nobody learns whether another member's tunnel exists.
            await _deny(stream, Denial.NO_TUNNEL, "no such tunnel of yours")
        else:
            await self._open(stream, request)

    async def _open(self, stream: Stream, opening: Open) -> None:
        request = TunnelRequest(stream.peer, opening.service, opening.lease, opening.term)
        admit = self._services.get(request.service)
        node = stream.peer.node
        if admit is None:
            await _deny(stream, Denial.NO_SERVICE, "no such tunnel service is offered here")
        elif self._per_peer[node] >= self._options.max_per_peer or len(self._tunnels) >= self._options.max_served:
            await _deny(stream, Denial.BUSY, "too many tunnels already")
        else:
            served = self._tunnels[opening.tunnel] = _Served(stream, opening.window, request)
            self._per_peer[node] += 1
            try:
                await self._run(served, admit)
            finally:
                served.close()
                del self._tunnels[opening.tunnel]
                self._per_peer -= Counter({node: 1})

    async def _run(self, served: _Served, admit: Admit) -> None:
        try:
            pipe = await _connected(served, admit)
        except ServiceRefused as refusal:
            await _deny(served.take()[0], refusal.code, str(refusal))
        except MeshError as error:
            logger.warning("%s", error)
            await _deny(served.take()[0], Denial.UNAVAILABLE, "the service does not answer")
        else:
            machine = Resumption(asyncio.get_running_loop().time(), self._options.window_bytes, self._options.patience)
            label = f"tunnel to {served.request.service!r} here"
            served.end = TunnelEnd(pipe, machine, served.request.peer.node, self._links, label)
            await served.end.run(served.attach)


async def _first_request(stream: Stream) -> Request:
    try:
        async with asyncio.timeout(FIRST_RECORD_S):
            return read_request(await stream.receive(), stream.peer.node)
    except TimeoutError as error:
        raise TimedOut(f"no tunnel request from node {short(stream.peer.node)} in {FIRST_RECORD_S:g} s") from error


async def _connected(served: _Served, admit: Admit) -> Pipe:
    """What the tunnel is to be connected to, connected. Raises ServiceRefused, Unreachable, TimedOut."""
    try:
        async with asyncio.timeout(ADMIT_S):
            target = await admit(served.request)
            pipe = await connect(target) if isinstance(target, Address) else target
    except TimeoutError as error:
        raise TimedOut(f"the service {served.request.service!r} here did not connect in {ADMIT_S:g} s") from error
    if served.has_ended:
        pipe.abort()
        raise ServiceRefused(Denial.NO_SERVICE, "the tunnel service has ended")
    return pipe


async def _deny(stream: Stream, code: Denial, reason: str) -> None:
    """Say why there is no tunnel, and wait until the opener has read it, or is gone."""
    logger.info("denied node %s a tunnel: %s", short(stream.peer.node), reason)
    with contextlib.suppress(TimeoutError, StreamReset, Unreachable):
        async with asyncio.timeout(DENIED_S):
            await stream.send(to_record(Denied(code, reason[:MAX_REASON_LENGTH])))
            await stream.finish()
            while await stream.receive() is not None:
                pass
    stream.reset(ResetCode.CANCELLED)


class _Served:
    """A tunnel of the server: whose it is, and the stream that is to carry it next."""

    def __init__(self, stream: Stream, window_bytes: int, request: TunnelRequest) -> None:
        self.request = request
        self.end: TunnelEnd | None = None
        self.has_ended = False
        self._window_bytes = window_bytes
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

    def take(self) -> tuple[Stream, Position]:
        """The stream that was offered last, which is now the caller's to end."""
        assert self._offered is not None, "nobody takes before the tunnel runs"
        offered, self._offered = self._offered, None
        return offered

    def stop(self, error: MeshError) -> None:
        """End the tunnel with `error`, at the latest when it is connected."""
        self.has_ended = True
        if self.end is not None:
            self.end.stop(error)

    def close(self) -> None:
        """Reset a stream that was offered and not taken."""
        if self._offered is not None:
            self._offered[0].reset(ResetCode.CANCELLED)
            self._offered = None

    async def attach(self, machine: Resumption) -> Stream:
        while self._offered is None:
            self._has_offer.clear()
            await self._has_offer.wait()  # the tunnel's patience is the deadline
        stream, position = self.take()
        try:
            machine.attach(position, self._window_bytes, asyncio.get_running_loop().time())
            await stream.send(to_record(machine.attached()))
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        return stream
