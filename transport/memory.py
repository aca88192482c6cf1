"""A network inside one process: delay, datagram loss, cuts and sudden deaths, with no admission.

For tests, simulations and demonstrations. It keeps the promises of `interface` as quic does, and runs on
the loop's clock, so `virtual_time` makes hours of it pass in moments. All dice come from one seed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from transport.address import format_address
from transport.credit import DEFAULT_BUDGET_BYTES, DEFAULT_WINDOW_BYTES
from transport.errors import ResetCode, TimedOut, Unreachable
from transport.identity import short
from transport.interface import (
    Address,
    Link,
    Links,
    NodeId,
    Peer,
    RecordKind,
    Role,
    Stream,
    StreamHeader,
    TransportEvent,
)
from transport.link_effect import Dial, Slot
from transport.record import encode_record
from transport.record_stream import RecordStream
from transport.switchboard import MAX_STREAMS, Switchboard
from transport.windows import Windows

PORT = 7842
HANDSHAKE_S = 5.0
AGAIN_S = 1.0
"""Who is in a hurry shakes hands anew that often, as with quic."""

DETECTION_S = 15.0
"""How long a silent connection goes unnoticed: quic's keepalive and its time-out."""

PROBE_S = 4.0
"""How long a probe waits for its answer: quic's silence."""

RETIRED_S = 30.0


class MemoryNetwork:
    """What lies between the nodes. delay_s: one way.  loss: share of datagrams; streams never lose bytes."""

    def __init__(self, seed: int = 0, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self.seed = seed
        self.delay_s = delay_s
        self.loss = loss
        self.dice = random.Random(f"network {seed}")
        self._transports: dict[Address, MemoryTransport] = {}
        self._directions: dict[tuple[NodeId, NodeId], _Direction] = {}
        self._cuts: dict[frozenset[NodeId], asyncio.TimerHandle] = {}

    def transport(
        self,
        node: NodeId,
        role: Role = Role.MEMBER,
        name: str = "",
        boot: int = 1,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> MemoryTransport:
        """A node's endpoint. The same node may come back with a higher boot once its last one is gone."""
        me = Peer(node, role, boot, name or short(node), b"")
        return MemoryTransport(self, me, window_bytes, budget_bytes)

    def cut(self, one: NodeId, other: NodeId) -> None:
        """Let nothing through between two nodes. Their connections notice after `DETECTION_S`."""
        for direction in (self.direction(one, other), self.direction(other, one)):
            direction.block()
        loop = asyncio.get_running_loop()
        self._cuts[frozenset((one, other))] = loop.call_later(DETECTION_S, self._notice, one, other)

    def mend(self, one: NodeId, other: NodeId) -> None:
        """Undo `cut`: what streams sent meanwhile arrives now."""
        notice = self._cuts.pop(frozenset((one, other)), None)
        if notice is not None:
            notice.cancel()
        for direction in (self.direction(one, other), self.direction(other, one)):
            direction.unblock()

    def direction(self, source: NodeId, target: NodeId) -> _Direction:
        pair = (source, target)
        if pair not in self._directions:
            self._directions[pair] = _Direction(self)
        return self._directions[pair]

    def attach(self, transport: MemoryTransport) -> None:
        self._transports[transport.address] = transport

    def detach(self, transport: MemoryTransport) -> None:
        if self._transports.get(transport.address) is transport:
            del self._transports[transport.address]

    def at(self, address: Address) -> MemoryTransport | None:
        return self._transports.get(address)

    def _notice(self, one: NodeId, other: NodeId) -> None:
        for transport in list(self._transports.values()):
            if transport.node in (one, other):
                transport.lose(other if transport.node == one else one, "no answer to keepalive")


class _Direction:
    """Everything on its way from one node to another, in order."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_blocked = False

    def send(self, arrival: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._last_due = max(self._last_due, loop.time() + self._network.delay_s)
        self._waiting.append((self._last_due, arrival))
        self._arm()

    def block(self) -> None:
        self.is_blocked = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unblock(self) -> None:
        self.is_blocked = False
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._waiting and not self.is_blocked:
            self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0][0] <= now and not self.is_blocked:
            self._waiting.popleft()[1]()
        self._arm()


class MemoryTransport:
    """Implements `interface.Transport`. Made by `MemoryNetwork.transport`."""

    def __init__(self, network: MemoryNetwork, me: Peer, window_bytes: int, budget_bytes: int) -> None:
        self.network = network
        self.me = me
        self.address = Address(short(me.node), PORT)
        self.windows = Windows(window_bytes, budget_bytes)
        dice = random.Random(f"{network.seed} {me.node.hex()} {me.boot}")
        self.switchboard = Switchboard(me.node, me.role, "memory", self._dial, dice)
        self._connections: set[_MemoryConnection] = set()
        self.is_alive = False

    async def __aenter__(self) -> MemoryTransport:
        await self.switchboard.__aenter__()
        self.is_alive = True
        self.network.attach(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.detach(self)
        for connection in list(self._connections):
            connection.close("shutting down")
        try:
            await self.switchboard.__aexit__(kind, error, trace)
        finally:
            self.is_alive = False

    @property
    def node(self) -> NodeId:
        return self.me.node

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.address,)

    @property
    def refusals(self) -> dict[str, int]:
        return {}

    @property
    def board(self) -> Links:
        return self.switchboard.board

    def links(self) -> tuple[Link, ...]:
        return self.switchboard.links()

    def keep(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        self.switchboard.keep(node, addresses)

    def drop(self, node: NodeId, reason: str) -> None:
        self.switchboard.drop(node, reason)

    def doubt(self, node: NodeId, reason: str) -> None:
        self.switchboard.doubt(node, reason)

    async def open(self, node: NodeId, header: StreamHeader, *, bulk: bool = False) -> Stream:
        return await self.switchboard.open(node, header)

    def send_datagram(self, node: NodeId, payload: bytes) -> bool:
        return self.switchboard.send_datagram(node, payload)

    def streams(self) -> AsyncIterator[Stream]:
        return self.switchboard.streams()

    def events(self) -> AsyncIterator[TransportEvent]:
        return self.switchboard.events()

    def kill(self) -> None:
        """Vanish without a word, as a process does on SIGKILL. Peers notice after `DETECTION_S`."""
        self.is_alive = False
        self.network.detach(self)
        for connection in list(self._connections):
            connection.die()

    def lose(self, node: NodeId, reason: str) -> None:
        """Let every connection with `node` end as a keepalive time-out ends it."""
        for connection in [connection for connection in self._connections if connection.peer.node == node]:
            connection.lost(reason, was_silent=True)

    def forget(self, connection: _MemoryConnection) -> None:
        self._connections.discard(connection)

    async def _dial(self, dial: Dial) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDSHAKE_S
        while loop.time() < deadline:
            for target in filter(None, map(self.network.at, dial.addresses)):
                if target.node == dial.node and await self._shake_hands(target, dial.slot):
                    return
            await asyncio.sleep(min(AGAIN_S, deadline - loop.time()) if dial.in_hurry else deadline - loop.time())
        tried = ", ".join(format_address(address) for address in dial.addresses)
        raise TimedOut(f"no answer from node {short(dial.node)} at {tried} within {HANDSHAKE_S:.0f} s")

    async def _shake_hands(self, target: MemoryTransport, slot: Slot) -> bool:
        """One round trip, then a connection at both ends; False when either direction is blocked."""
        there = self.network.direction(self.node, target.node)
        back = self.network.direction(target.node, self.node)
        await asyncio.sleep(2 * self.network.delay_s)
        if there.is_blocked or back.is_blocked or not target.is_alive:
            return False
        here = _MemoryConnection(self, target.me, target.address, slot, is_dialled_here=True)
        far = _MemoryConnection(target, self.me, self.address, slot, is_dialled_here=False)
        here.twin, far.twin = far, here
        target.adopt(far)
        self.adopt(here)
        return True

    def adopt(self, connection: _MemoryConnection) -> None:
        self._connections.add(connection)
        self.switchboard.connected(connection)


class _MemoryConnection:
    """One end of a connection; `twin` is the other. Implements `switchboard.Connection`."""

    twin: _MemoryConnection

    def __init__(self, owner: MemoryTransport, peer: Peer, address: Address, slot: Slot, is_dialled_here: bool) -> None:
        self._owner = owner
        self.slot = slot
        self.peer = peer
        self.address = address
        self.is_dialled_here = is_dialled_here
        self.bytes_sent = 0
        self.bytes_received = 0
        self.streams: dict[int, RecordStream] = {}
        self._outgoing = owner.network.direction(owner.node, peer.node)
        self._next_stream = 0 if is_dialled_here else 1
        self._next_from_peer = 0
        self._slots = asyncio.Semaphore(MAX_STREAMS[slot])
        self._idle_since = asyncio.get_running_loop().time()
        self._is_open = True
        self._is_retired = False

    @property
    def rtt_ms(self) -> float:
        return self._owner.network.delay_s * 2000.0

    @property
    def idle_s(self) -> float:
        return 0.0 if self.streams else asyncio.get_running_loop().time() - self._idle_since

    async def open(self, header: StreamHeader) -> Stream:
        await self._slots.acquire()
        if not self._is_open:
            self._slots.release()
            raise Unreachable(f"the connection with node {short(self.peer.node)} closed")
        number = self._next_stream
        self._next_stream += 2
        return self._add_stream(number, header)

    def send_datagram(self, payload: bytes) -> None:
        self.bytes_sent += len(payload)
        network = self._owner.network
        if network.dice.random() >= network.loss and not self._outgoing.is_blocked:
            self._transmit(lambda twin: twin.datagram_received(payload))

    def probe(self) -> None:
        loop = asyncio.get_running_loop()
        if self.twin._is_open and not self._outgoing.is_blocked and not self.twin._outgoing.is_blocked:
            loop.call_later(2 * self._owner.network.delay_s, self._owner.switchboard.answered, self)
        else:
            loop.call_later(PROBE_S, self.lost, "no answer to a probe")

    def retire(self, reason: str) -> None:
        self._is_retired = True
        asyncio.get_running_loop().call_later(RETIRED_S, self.close, reason)
        self._close_if_done(reason)

    def close(self, reason: str) -> None:
        if self._is_open:
            self._transmit(lambda twin: twin.lost(f"closed by peer: {reason}"))
            self._end(reason)

    def lost(self, reason: str, was_silent: bool = False) -> None:
        """The other end closed, or nothing came for too long."""
        if self._is_open:
            self._end(reason)
            self._owner.switchboard.disconnected(self, reason, was_silent)

    def die(self) -> None:
        """End without telling the peer, which notices by itself."""
        if self._is_open:
            self._end("killed")
            asyncio.get_running_loop().call_later(DETECTION_S, self.twin.lost, "no answer to keepalive", True)

    # What lanes send and the twin receives

    def write(self, number: int, data: bytes, end: bool) -> None:
        self.bytes_sent += len(data)
        self._transmit(lambda twin: twin.data_received(number, data, end))

    def abandon(self, number: int, code: int) -> None:
        self._transmit(lambda twin: twin.reset_received(number, code))

    def forget(self, number: int) -> None:
        del self.streams[number]
        self._idle_since = asyncio.get_running_loop().time()
        if self._is_ours(number):
            self._slots.release()
        if self._is_retired:
            self._close_if_done("replaced")

    def data_received(self, number: int, data: bytes, end: bool) -> None:
        self.bytes_received += len(data)
        stream = self.streams.get(number)
        if stream is not None:
            stream.data_received(data, end)
        elif not self._is_ours(number) and number >= self._next_from_peer:
            self._accept(number, data)

    def reset_received(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            stream.reset_received(code)

    def datagram_received(self, payload: bytes) -> None:
        self.bytes_received += len(payload)
        self._owner.switchboard.datagram_arrived(self.peer.node, payload)

    # Inside

    def _accept(self, number: int, data: bytes) -> None:
        self._next_from_peer = number + 1
        if len(self.streams) >= 2 * MAX_STREAMS[self.slot] or not self._owner.windows.has_room(self.peer.node):
            self.abandon(number, ResetCode.BUSY)
            return
        stream = self._add_stream(number, None)
        stream.data_received(data, end=False)
        if stream.has_header:
            self._owner.switchboard.stream_arrived(stream)

    def _add_stream(self, number: int, header: StreamHeader | None) -> RecordStream:
        credit = self._owner.windows.credit(self.peer.node)
        stream = RecordStream(self.peer, _MemoryLane(self, number), credit, header)
        self.streams[number] = stream
        return stream

    def _is_ours(self, number: int) -> bool:
        return number % 2 == (0 if self.is_dialled_here else 1)

    def _transmit(self, arrival: Callable[[_MemoryConnection], None]) -> None:
        twin = self.twin
        self._outgoing.send(lambda: arrival(twin) if twin._is_open else None)

    def _close_if_done(self, reason: str) -> None:
        if not self.streams:
            self.close(reason)

    def _end(self, reason: str) -> None:
        self._is_open = False
        self._owner.forget(self)
        for stream in list(self.streams.values()):
            stream.connection_lost(f"connection with node {short(self.peer.node)} ended: {reason}")


class _MemoryLane:
    __slots__ = ("_connection", "_number")

    def __init__(self, connection: _MemoryConnection, number: int) -> None:
        self._connection = connection
        self._number = number

    def send(self, kind: RecordKind, payload: bytes) -> None:
        self._connection.write(self._number, encode_record(kind, payload), False)

    def write(self, data: bytes, end: bool) -> None:
        self._connection.write(self._number, data, end)

    def abandon(self, code: int) -> None:
        self._connection.abandon(self._number, code)

    def forget(self) -> None:
        self._connection.forget(self._number)
