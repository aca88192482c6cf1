"""Joins connections into links: performs what `link` decides. What the layers above consume waits in an `inbox`.

Shared by every carrier. A carrier brings admitted connections and a way to dial; it keeps no state about
peers of its own. Streams go over the control or the data connection by their protocol; a data connection is made
with the first stream that needs it and goes when nothing has used it for long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol

from transport.errors import MeshError, Refused, ResetCode, TimedOut, Unreachable
from transport.identity import short
from transport.inbox import Inbox
from transport.interface import (
    MAX_DATAGRAM_BYTES,
    Address,
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
from transport.link import LinkTable
from transport.link_board import LinkBoard
from transport.link_effect import (
    DIAL_PROTOCOL,
    AskToDial,
    Close,
    ConnectionId,
    Dial,
    Effect,
    Probe,
    Retire,
    Slot,
    StopDialling,
    slot_for,
)

logger = logging.getLogger("meshd.transport")

MAX_STREAMS_PER_PEER = 512
"""Open at once on one data connection or lane, each way. Opening one more waits."""

MAX_CONTROL_STREAMS = 64
MAX_STREAMS = {Slot.CONTROL: MAX_CONTROL_STREAMS, Slot.DATA: MAX_STREAMS_PER_PEER}

DATA_DIAL_S = 5.0
"""How long an `open` waits for the data connection that it needs."""

ASK_AGAIN_S = 0.5
"""How often it asks meanwhile for one to be dialled."""

DATA_IDLE_S = 120.0
"""A data connection without a stream for this long goes; people who chat come back sooner."""

IDLE_CHECK_S = 10.0


class Connection(Protocol):
    """One admitted connection, as the switchboard needs it."""

    @property
    def slot(self) -> Slot: ...
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
    @property
    def idle_s(self) -> float:
        """For how long it has had no stream; 0 while it has one."""

    async def open(self, header: StreamHeader) -> Stream:
        """Open a stream, waiting while the peer allows no more of them. Raises Unreachable when it closes."""

    def send_datagram(self, payload: bytes) -> None: ...

    def probe(self) -> None:
        """Ask the peer for a sign of life: `answered` or `disconnected` follows within seconds."""

    def retire(self, reason: str) -> None:
        """Close once the last stream has ended, within a bounded time. Not reported; the carrier keeps it till then."""

    def close(self, reason: str) -> None:
        """Close now. Must not report `disconnected` before it returns."""


DialNode = Callable[[Dial], Awaitable[object]]
"""Connects to one node and reports it to `connected`; raises MeshError when that cannot be done."""


class Switchboard:
    """The links of one endpoint and the dials in progress. Use as `async with`.

    carrier: its name in `Link`.  generator: dice for back-off.
    """

    def __init__(self, node: NodeId, role: Role, carrier: str, dial: DialNode, generator: random.Random) -> None:
        self.board = LinkBoard()
        self._table = LinkTable(node, role, generator.uniform)
        self._carrier = carrier
        self._dial = dial
        self._connections: dict[ConnectionId, Connection] = {}
        self._numbers: dict[Connection, ConnectionId] = {}
        self._last_number = 0
        self._dials: dict[tuple[NodeId, Slot], asyncio.Task[None]] = {}
        self._openings: dict[NodeId, asyncio.Future[Connection]] = {}
        self._asked_at: dict[NodeId, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._inbox = Inbox()
        self._group = asyncio.TaskGroup()
        self._is_open = False

    async def __aenter__(self) -> Switchboard:
        await self._group.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        for timer in (self._timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        for task in self._dials.values():
            task.cancel()
        for node in list(self._openings):
            self._opening_failed(node, Unreachable("shutting down"))
        for connection in list(self._connections.values()):
            connection.close("shutting down")
        self._connections.clear()
        self._numbers.clear()
        self._inbox.close()
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

    def doubt(self, node: NodeId, reason: str) -> None:
        self._perform(self._table.doubt(node, reason, self._loop.time()))

    async def open(self, node: NodeId, header: StreamHeader) -> Stream:
        connection = self.connected_to(node)
        if slot_for(header.protocol) is Slot.DATA:
            connection = self.connection(node, Slot.DATA) or await self._data_connection(node)
        return await connection.open(header)

    def send_datagram(self, node: NodeId, payload: bytes) -> bool:
        if len(payload) > MAX_DATAGRAM_BYTES:
            raise ValueError(f"a datagram carries at most {MAX_DATAGRAM_BYTES} bytes, not {len(payload)}")
        connection = self.connection(node)
        if connection is None:
            return False
        connection.send_datagram(payload)
        return True

    def streams(self) -> AsyncIterator[Stream]:
        return self._inbox.streams()

    def events(self) -> AsyncIterator[TransportEvent]:
        return self._inbox.events()

    # For the carrier

    def connection(self, node: NodeId, slot: Slot = Slot.CONTROL) -> Connection | None:
        """The connection that serves `slot` of the link with `node` now."""
        number = self._table.connection(node, slot)
        return None if number is None else self._connections.get(number)

    def connected_to(self, node: NodeId) -> Connection:
        """The control connection with a peer that is there for new work. Raises Unreachable."""
        connection = self.connection(node)
        if connection is None or self._table.state(node) is not LinkState.CONNECTED:
            raise Unreachable(f"no connection to node {short(node)}")
        return connection

    def connected(self, connection: Connection) -> None:
        """Take over an admitted connection. It may be closed or retired before this returns."""
        if not self._is_open:
            connection.close("shutting down")
            return
        self._last_number += 1
        number = ConnectionId(self._last_number)
        self._connections[number] = connection
        self._numbers[connection] = number
        self._perform(
            self._table.connected(
                number,
                connection.peer,
                connection.address,
                connection.is_dialled_here,
                self._loop.time(),
                connection.slot,
            )
        )
        node = connection.peer.node
        if connection.slot is Slot.DATA:
            self._data_connected(node)
        elif node in self._openings:
            # Whoever was asked to dial a data connection has perhaps lost the right to: only one end dials.
            self._perform(self._table.want_data(node, self._loop.time()))

    def disconnected(self, connection: Connection, reason: str, was_silent: bool = False) -> None:
        """A connection ended without our doing. was_silent: because nothing came on it any more."""
        number = self._numbers.pop(connection, None)
        if number is not None and self._is_open:
            del self._connections[number]
            node, now = connection.peer.node, self._loop.time()
            self._perform(self._table.disconnected(node, number, reason, now, was_silent))

    def answered(self, connection: Connection) -> None:
        """The peer of a connection showed that it lives, after `probe` or by itself."""
        number = self._numbers.get(connection)
        if number is not None and self._is_open:
            self._perform(self._table.answered(connection.peer.node, number))

    def bounced(self, connection: Connection) -> None:
        """The network says that nobody listens where the peer of a connection was: doubt it."""
        if connection in self._numbers and self._is_open:
            self.doubt(connection.peer.node, "nobody listens on its port")

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a task of the carrier in the switchboard's group."""
        return self._group.create_task(work, name=name)

    def stream_arrived(self, stream: Stream) -> None:
        """A peer opened a stream."""
        if not self._is_open:
            stream.reset(ResetCode.SHUTDOWN)
        elif stream.header.protocol == DIAL_PROTOCOL:
            stream.reset(ResetCode.CANCELLED)  # was heard; there is nothing to say
            self._perform(self._table.asked_to_dial(stream.peer.node, self._loop.time()))
        else:
            self._inbox.put_stream(stream)

    def datagram_arrived(self, node: NodeId, payload: bytes) -> None:
        self._inbox.put_datagram(node, payload)

    # Data connections

    async def _data_connection(self, node: NodeId) -> Connection:
        """The data connection with a connected peer, made if need be. Raises Unreachable."""
        opening = self._openings.get(node)
        if opening is None:
            opening = self._openings[node] = self._loop.create_future()
        try:
            async with asyncio.timeout(DATA_DIAL_S):
                while not opening.done():
                    self._want_data(node)
                    await asyncio.wait({opening}, timeout=ASK_AGAIN_S)
                return opening.result()
        except TimeoutError as error:
            failure = TimedOut(f"no data connection with node {short(node)} within {DATA_DIAL_S:.0f} s")
            self._opening_failed(node, failure)
            raise failure from error

    def _want_data(self, node: NodeId) -> None:
        """Again and again while somebody waits: a peer that is in doubt of us at that moment does not dial."""
        now = self._loop.time()
        if now - self._asked_at.get(node, -math.inf) >= ASK_AGAIN_S:
            self._asked_at[node] = now
            self._perform(self._table.want_data(node, now))

    def _data_connected(self, node: NodeId) -> None:
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(IDLE_CHECK_S, self._retire_idle)
        connection = self.connection(node, Slot.DATA)
        if connection is not None and node in self._openings:
            self._asked_at.pop(node, None)
            self._openings.pop(node).set_result(connection)

    def _opening_failed(self, node: NodeId, error: Unreachable) -> None:
        opening = self._openings.pop(node, None)
        self._asked_at.pop(node, None)
        if opening is not None:
            opening.set_exception(error)
            opening.exception()  # nobody need be waiting any more

    async def _ask_to_dial(self, connection: Connection) -> None:
        """Whoever waits for the connection has a deadline of its own, so nothing that goes wrong here matters."""
        try:
            async with asyncio.timeout(DATA_DIAL_S):
                stream = await connection.open(StreamHeader(DIAL_PROTOCOL, "", int(DATA_DIAL_S * 1000)))
                try:
                    await stream.receive()
                finally:
                    stream.reset(ResetCode.CANCELLED)
        except (MeshError, TimeoutError) as error:
            logger.debug("asked %s to dial a data connection: %s", short(connection.peer.node), error)

    def _retire_idle(self) -> None:
        self._idle_timer = None
        data = [(number, one) for number, one in self._connections.items() if one.slot is Slot.DATA]
        for number, connection in data:
            if connection.idle_s >= DATA_IDLE_S:
                self._perform(self._table.idle(connection.peer.node, number))
        if data:
            self._idle_timer = self._loop.call_later(IDLE_CHECK_S, self._retire_idle)

    # Effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Dial(node, slot=slot):
                    self._dials[node, slot] = self.spawn(self._run_dial(effect), f"dial {short(node)} {slot.value}")
                case StopDialling(node, slot):
                    self._dials.pop((node, slot)).cancel()
                case AskToDial(number):
                    connection = self._connections[number]
                    self.spawn(self._ask_to_dial(connection), f"ask {short(connection.peer.node)} to dial")
                case Probe(number):
                    self._connections[number].probe()
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
        name = change.peer.name if change.peer else ""
        logger.info("link %s %s: %s (%s)", short(change.node), name, change.state.value, change.reason)
        self.board.heard(change)
        self._inbox.put_change(change)
        if change.state is not LinkState.CONNECTED:
            self._opening_failed(change.node, Unreachable(f"no connection to node {short(change.node)}"))

    async def _run_dial(self, dial: Dial) -> None:
        node, slot = dial.node, dial.slot
        try:
            await self._dial(dial)
        except MeshError as error:
            level = logging.INFO if isinstance(error, Refused) else logging.DEBUG
            logger.log(level, "dialling %s failed: %s", short(node), error)
            if self._is_over(node, slot):
                if slot is Slot.DATA:
                    self._opening_failed(node, Unreachable(f"no data connection with node {short(node)}: {error}"))
                self._perform(self._table.dial_failed(node, self._loop.time(), slot))
        else:
            self._is_over(node, slot)

    def _is_over(self, node: NodeId, slot: Slot) -> bool:
        """Whether the running task was the dial in progress there; it no longer is."""
        if self._dials.get((node, slot)) is not asyncio.current_task():
            return False
        del self._dials[node, slot]
        return True

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
        serving = [one for slot in Slot if (one := self.connection(node, slot)) is not None]
        control = self.connection(node)
        peer = self._table.peer(node)
        return Link(
            node=node,
            role=peer.role if peer else Role.MEMBER,
            name=peer.name if peer else "",
            state=self._table.state(node) or LinkState.LOST,
            address=control.address if control else self._table.address(node),
            carrier=self._carrier,
            rtt_ms=control.rtt_ms if control else None,
            bytes_sent=sum(connection.bytes_sent for connection in serving),
            bytes_received=sum(connection.bytes_received for connection in serving),
        )
