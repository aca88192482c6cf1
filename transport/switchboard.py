"""Joins connections into links: performs what `link` decides, and queues what the layers above consume.

Shared by every carrier. A carrier brings admitted connections and a way to dial; it keeps no state about
peers of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol

from transport.errors import MeshError, Refused, ResetCode, Unreachable
from transport.identity import short
from transport.interface import (
    MAX_DATAGRAM_BYTES,
    Address,
    DatagramReceived,
    Link,
    LinkChanged,
    LinkState,
    NodeId,
    Peer,
    Role,
    Stream,
    StreamHeader,
    TransportEvent,
)
from transport.link import Close, ConnectionId, Dial, Effect, LinkTable, Retire, StopDialling

logger = logging.getLogger("meshd.transport")

MAX_STREAMS_PER_PEER = 512
"""Open at once on one connection, each way. Opening one more waits."""

MAX_WAITING_STREAMS = 256
MAX_WAITING_DATAGRAMS = 1024
MAX_WAITING_CHANGES = 65536


class Connection(Protocol):
    """One admitted connection, as the switchboard needs it."""

    @property
    def peer(self) -> Peer: ...
    @property
    def address(self) -> Address: ...
    @property
    def is_dialled_here(self) -> bool: ...
    @property
    def rtt_ms(self) -> float | None: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...

    async def open(self, header: StreamHeader) -> Stream:
        """Open a stream, waiting while the peer allows no more of them. Raises Unreachable when it closes."""

    def send_datagram(self, payload: bytes) -> None: ...

    def retire(self, reason: str) -> None:
        """Close once the last stream has ended, within a bounded time. Not reported; the carrier keeps it till then."""

    def close(self, reason: str) -> None:
        """Close now. Must not report `disconnected` before it returns."""


DialNode = Callable[[NodeId, tuple[Address, ...]], Awaitable[object]]
"""Connects to one node and reports it to `connected`; raises MeshError when that cannot be done."""


class Switchboard:
    """Links, the two queues and the dials in progress of one endpoint. Use as `async with`.

    carrier: its name in `Link`.  generator: dice for back-off.
    """

    def __init__(self, node: NodeId, role: Role, carrier: str, dial: DialNode, generator: random.Random) -> None:
        self._table = LinkTable(node, role, generator.uniform)
        self._carrier = carrier
        self._dial = dial
        self._connections: dict[ConnectionId, Connection] = {}
        self._numbers: dict[Connection, ConnectionId] = {}
        self._last_number = 0
        self._dials: dict[NodeId, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._changes: deque[LinkChanged] = deque()
        self._datagrams: deque[DatagramReceived] = deque(maxlen=MAX_WAITING_DATAGRAMS)
        self._streams: deque[Stream] = deque()
        self._event_ready = asyncio.Event()
        self._stream_ready = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._is_open = False
        self.dropped_datagrams = 0

    async def __aenter__(self) -> Switchboard:
        await self._group.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._dials.values():
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close("shutting down")
        self._connections.clear()
        self._numbers.clear()
        self._event_ready.set()
        self._stream_ready.set()
        # The group is told of cancellation only: what else ends the block leaves it as itself, not in a group.
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:
            await self._group.__aexit__(None, None, None)

    # For the layers above

    def links(self) -> tuple[Link, ...]:
        return tuple(self._link(node) for node in self._table.nodes())

    def keep(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        self._perform(self._table.keep(node, addresses, self._loop.time()))

    def drop(self, node: NodeId, reason: str) -> None:
        self._perform(self._table.drop(node, reason))

    async def open(self, node: NodeId, header: StreamHeader) -> Stream:
        connection = self.connection(node)
        if connection is None:
            raise Unreachable(f"no connection to node {short(node)}")
        return await connection.open(header)

    def send_datagram(self, node: NodeId, payload: bytes) -> bool:
        if len(payload) > MAX_DATAGRAM_BYTES:
            raise ValueError(f"a datagram carries at most {MAX_DATAGRAM_BYTES} bytes, not {len(payload)}")
        connection = self.connection(node)
        if connection is None:
            return False
        connection.send_datagram(payload)
        return True

    async def streams(self) -> AsyncIterator[Stream]:
        while True:
            while self._streams:
                yield self._streams.popleft()
            if not self._is_open:
                return
            self._stream_ready.clear()
            await self._stream_ready.wait()

    async def events(self) -> AsyncIterator[TransportEvent]:
        while True:
            while self._changes or self._datagrams:
                # Changes first: nobody hears from a peer before hearing of it.
                yield self._changes.popleft() if self._changes else self._datagrams.popleft()
            if not self._is_open:
                return
            self._event_ready.clear()
            await self._event_ready.wait()

    # For the carrier

    def connection(self, node: NodeId) -> Connection | None:
        """The connection that carries the link with `node` now."""
        number = self._table.connection(node)
        return None if number is None else self._connections.get(number)

    def connected(self, connection: Connection) -> None:
        """Take over an admitted connection. It may be closed or retired before this returns."""
        if not self._is_open:
            connection.close("shutting down")
            return
        self._last_number += 1
        number = ConnectionId(self._last_number)
        self._connections[number] = connection
        self._numbers[connection] = number
        peer = connection.peer
        now = self._loop.time()
        self._perform(self._table.connected(number, peer, connection.address, connection.is_dialled_here, now))

    def disconnected(self, connection: Connection, reason: str) -> None:
        """A connection ended without our doing."""
        number = self._numbers.pop(connection, None)
        if number is not None and self._is_open:
            del self._connections[number]
            self._perform(self._table.disconnected(connection.peer.node, number, reason, self._loop.time()))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a task of the carrier in the switchboard's group."""
        return self._group.create_task(work, name=name)

    def stream_arrived(self, stream: Stream) -> None:
        """Queue a stream that a peer opened; one too many is reset with BUSY."""
        if len(self._streams) >= MAX_WAITING_STREAMS or not self._is_open:
            stream.reset(ResetCode.BUSY)
            return
        self._streams.append(stream)
        self._stream_ready.set()

    def datagram_arrived(self, node: NodeId, payload: bytes) -> None:
        """Queue a datagram; when nobody takes them the oldest goes."""
        if len(self._datagrams) == MAX_WAITING_DATAGRAMS:
            self.dropped_datagrams += 1
        self._datagrams.append(DatagramReceived(node, payload))
        self._event_ready.set()

    # Effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Dial(node, addresses):
                    self._dials[node] = self.spawn(self._run_dial(node, addresses), f"dial {short(node)}")
                case StopDialling(node):
                    self._dials.pop(node).cancel()
                case Close(number, reason):
                    self._release(number).close(reason)
                case Retire(number, reason):
                    self._release(number).retire(reason)
                case LinkChanged():
                    self._announce(effect)
        self._arm()

    def _release(self, number: ConnectionId) -> Connection:
        connection = self._connections.pop(number)
        del self._numbers[connection]
        return connection

    def _announce(self, change: LinkChanged) -> None:
        if len(self._changes) >= MAX_WAITING_CHANGES:
            raise RuntimeError("nobody takes the events of this transport")
        name = change.peer.name if change.peer else ""
        logger.info("link %s %s: %s (%s)", short(change.node), name, change.state.value, change.reason)
        self._changes.append(change)
        self._event_ready.set()

    async def _run_dial(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        try:
            await self._dial(node, addresses)
        except MeshError as error:
            level = logging.INFO if isinstance(error, Refused) else logging.DEBUG
            logger.log(level, "dialling %s failed: %s", short(node), error)
            if self._dials.get(node) is asyncio.current_task():
                del self._dials[node]
                self._perform(self._table.dial_failed(node, self._loop.time()))
        else:
            if self._dials.get(node) is asyncio.current_task():
                del self._dials[node]

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self._table.next_wake()
        if wake_at is not None and self._is_open:
            self._timer = self._loop.call_at(wake_at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self._table.tick(self._loop.time()))

    def _link(self, node: NodeId) -> Link:
        connection = self.connection(node)
        peer = self._table.peer(node)
        return Link(
            node=node,
            role=peer.role if peer else Role.MEMBER,
            name=peer.name if peer else "",
            state=self._table.state(node) or LinkState.LOST,
            address=self._table.address(node),
            carrier=self._carrier,
            rtt_ms=connection.rtt_ms if connection else None,
            bytes_sent=connection.bytes_sent if connection else 0,
            bytes_received=connection.bytes_received if connection else 0,
        )
