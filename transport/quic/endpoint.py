"""Owns the UDP socket: tells connections apart by connection id, meets strangers, sends what is ready.

Whether a stranger may enter is for `admitting`; here it only has to be a well-formed first packet, from an
address that has proved itself (Retry) when many handshakes stand half open.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from time import monotonic

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from transport.link_effect import Slot
from transport.quic import internals
from transport.quic.connection import QuicPeerConnection
from transport.quic.session import CONNECTION_ID_BYTES, SessionFactory
from transport.quic.strangers import Strangers, Welcome, network_of
from transport.quic.udp import MAX_RECEIVED_DATAGRAMS, SocketAddress, UdpSocket

CHECK_EVERY_S = 0.5

SLICE_S = 0.002
"""For so long at a time packets of data connections are worked off; 128 of them take 4 to 8 ms."""

MAX_WAITING_PACKETS = 1024
"""Of data connections, read and not worked off; more waits in the kernel, and is lost when that is full."""

_CLOCK_EVERY = 8


class Endpoint:
    """One socket and every connection on it.

    accepted: called with each connection that a stranger begins; it has to `welcome` it or close it.
    """

    def __init__(
        self, udp: UdpSocket, sessions: SessionFactory, accepted: Callable[[QuicPeerConnection], None]
    ) -> None:
        self._udp = udp
        self._sessions = sessions
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[bytes, QuicPeerConnection] = {}
        self._strangers = Strangers()
        self._half_open: dict[QuicPeerConnection, tuple[str, bool]] = {}
        self._touched: dict[QuicPeerConnection, None] = {}
        self._waiting: deque[tuple[bytes, SocketAddress]] = deque()
        self._is_working = False
        self._unanswered = 0
        self._unsent: list[tuple[bytes, SocketAddress]] = []
        self._is_flushing = False
        self._is_blocked = False
        self._is_closed = False
        self._retry = QuicRetryTokenHandler()
        udp.watch_readable(self._loop, self._readable)
        self._checker = self._loop.call_later(CHECK_EVERY_S, self._check)
        self.ignored_packets = 0

    @property
    def half_open(self) -> int:
        """Handshakes that strangers began and nobody admitted yet."""
        return len(self._half_open)

    @property
    def connections(self) -> set[QuicPeerConnection]:
        return set(self._by_id.values())

    def dial(self, address: SocketAddress, slot: Slot = Slot.CONTROL) -> QuicPeerConnection:
        """Begin a connection to `address`, as this socket spells it."""
        configuration, secrets = self._sessions.configuration(slot)
        quic = internals.BoundedConnection(configuration=configuration)
        internals.allow_streams(quic, bidirectional=1)  # the greeting
        internals.pace_in_bursts(quic)
        connection = QuicPeerConnection(self, quic, secrets, address)
        self._by_id[quic.host_cid] = connection
        self._udp.forget(address)
        connection.connect(monotonic())
        return connection

    def welcome(self, connection: QuicPeerConnection) -> None:
        """The stranger behind `connection` has been admitted."""
        where = self._half_open.pop(connection, None)
        if where is not None:
            self._strangers.end(*where)

    def close(self, reason: str) -> None:
        """Say goodbye on every connection and close the socket."""
        for connection in self.connections:
            connection.close(reason)
        self._unanswered = 0
        self._flush()
        self.vanish()

    def vanish(self) -> None:
        """Close the socket without a word, as the death of this process would."""
        if self._is_closed:
            return
        self._is_closed = True
        for connection in self.connections:
            connection.stop()
        self._by_id.clear()
        self._waiting.clear()
        self._checker.cancel()
        self._udp.close(self._loop)

    # For connections (connection.Host)

    def touch(self, connection: QuicPeerConnection) -> None:
        self._touched[connection] = None
        self._flush_soon()

    def transmit(self, connection: QuicPeerConnection, now: float) -> None:
        if self._is_blocked:
            self._touched[connection] = None
            return
        self._touched.pop(connection, None)
        self._send(connection.to_send(now))

    def register(self, connection_id: bytes, connection: QuicPeerConnection) -> None:
        self._by_id[connection_id] = connection

    def unregister(self, connection_id: bytes) -> None:
        self._by_id.pop(connection_id, None)

    def forget(self, connection: QuicPeerConnection) -> None:
        self.welcome(connection)
        self._touched.pop(connection, None)
        connection.stop()
        for connection_id in [key for key, value in self._by_id.items() if value is connection]:
            del self._by_id[connection_id]

    # Receiving

    def _readable(self) -> None:
        """Deliver what arrived, packets of data connections last: gossip and pings do not queue behind bulk."""
        now = monotonic()
        if len(self._waiting) < MAX_WAITING_PACKETS:
            for data, address in self._udp.receive():
                connection = self._by_id.get(_destination_id(data))
                if connection is not None and connection.slot is Slot.DATA:
                    self._waiting.append((data, address))
                else:
                    self._deliver(connection, data, address, now)
        self._take_bounced()
        if self._waiting and not self._is_working:
            self._work_off()

    def _work_off(self) -> None:
        """Deliver what waits, for a while; then all else has its turn. Slices are answered together."""
        waiting = self._waiting
        now = monotonic()
        end = now + SLICE_S
        while waiting and now < end:
            data, address = waiting.popleft()
            self._deliver(self._by_id.get(_destination_id(data)), data, address, now)
            self._unanswered += 1
            if self._unanswered % _CLOCK_EVERY == 0:
                now = monotonic()
        self._is_working = bool(waiting)
        if waiting:
            self._loop.call_soon(self._work_off)
        if not waiting or self._unanswered >= MAX_RECEIVED_DATAGRAMS:
            self._unanswered = 0
            self._flush_soon()

    def _deliver(self, connection: QuicPeerConnection | None, data: bytes, address: SocketAddress, now: float) -> None:
        if connection is None:
            connection = self._meet(data, address)
        if connection is None:
            self.ignored_packets += 1
        else:
            connection.datagram_received(data, address, now)

    def _take_bounced(self) -> None:
        """Tell who sent packets to where nobody listens. Quoted, so only who saw them can say so (RFC 9000 §14.2.1)."""
        for data, address in self._udp.take_bounced():
            destination_id = _destination_id(data)
            for connection in self.connections:
                if connection.peer_connection_id == destination_id and connection.peer_address == address:
                    connection.bounced(monotonic())

    def _meet(self, data: bytes, address: SocketAddress) -> QuicPeerConnection | None:
        """A new connection, if `data` begins one and there is room."""
        header = _first_packet(data)
        if header is None:
            return None
        has_proved = bool(header.token)
        match self._strangers.judge(network_of(address[0]), has_proved):
            case Welcome.IGNORE:
                return None
            case Welcome.RETRY:
                self._ask_to_retry(header, address)
                return None
            case Welcome.ACCEPT if has_proved:
                original = self._answered_retry(header, address)
                return None if original is None else self._accept(header, address, original, header.destination_cid)
            case Welcome.ACCEPT:
                return self._accept(header, address, header.destination_cid, None)

    def _answered_retry(self, header: QuicHeader, address: SocketAddress) -> bytes | None:
        """The connection id that a handshake began with, when its token is one that we gave to `address`."""
        try:
            original: bytes = self._retry.validate_token(
                address=address, destination_cid=header.destination_cid, token=header.token, now=monotonic()
            )
        except ValueError:
            return None
        return original

    def _accept(
        self, header: QuicHeader, address: SocketAddress, original: bytes, retried: bytes | None
    ) -> QuicPeerConnection:
        configuration, secrets = self._sessions.configuration()
        quic = internals.BoundedConnection(
            configuration=configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        internals.allow_streams(quic, bidirectional=0)
        internals.pace_in_bursts(quic)
        connection = QuicPeerConnection(self, quic, secrets, address)
        self._by_id[header.destination_cid] = self._by_id[quic.host_cid] = connection
        self._half_open[connection] = where = (network_of(address[0]), retried is not None)
        self._strangers.begin(*where)
        self._accepted(connection)
        return connection

    def _ask_to_retry(self, header: QuicHeader, address: SocketAddress) -> None:
        source_cid = os.urandom(CONNECTION_ID_BYTES)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source_cid,
            now=monotonic(),
        )
        retry = encode_quic_retry(
            version=QuicProtocolVersion.VERSION_1,
            source_cid=source_cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._send([(retry, address)])

    # Sending

    def _flush_soon(self) -> None:
        if self._touched and not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._is_blocked or self._is_closed:
            return
        now = monotonic()
        touched, self._touched = self._touched, {}
        packets: list[tuple[bytes, SocketAddress]] = []
        for connection in sorted(touched, key=_comes_late) if len(touched) > 1 else touched:
            if self._unanswered and _comes_late(connection):
                self._touched[connection] = None
            else:
                packets += connection.to_send(now)
        self._send(packets)

    def _send(self, packets: list[tuple[bytes, SocketAddress]]) -> None:
        if self._unsent:
            self._unsent += packets
            return
        sent = self._udp.send(packets)
        if self._udp.has_bounced:
            self._loop.call_soon(self._take_bounced)
        if sent < len(packets):
            # The kernel is full: let nobody make more packets until these have gone.
            self._unsent = packets[sent:]
            self._is_blocked = True
            self._udp.watch_writable(self._loop, self._writable)

    def _writable(self) -> None:
        del self._unsent[: self._udp.send(self._unsent)]
        if not self._unsent:
            self._is_blocked = False
            self._udp.unwatch_writable(self._loop)
            self._flush()

    # Upkeep

    def _check(self) -> None:
        self._checker = self._loop.call_later(CHECK_EVERY_S, self._check)
        now = monotonic()
        for connection in self.connections:
            connection.check(now)


def _comes_late(connection: QuicPeerConnection) -> bool:
    return connection.slot is Slot.DATA


def _destination_id(data: bytes) -> bytes:
    """The connection id that a packet is for, without parsing the rest (RFC 9000 §17)."""
    if not data:
        return b""
    if data[0] & 0x80:
        return data[6 : 6 + data[5]] if len(data) > 6 else b""
    return data[1 : 1 + CONNECTION_ID_BYTES]


def _first_packet(data: bytes) -> QuicHeader | None:
    """The header of a packet that may begin a connection (RFC 9000 §14.1: at least 1200 bytes)."""
    if len(data) < SMALLEST_MAX_DATAGRAM_SIZE or not data[0] & 0x80:
        return None
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
    except ValueError:
        return None
    if header.packet_type is not QuicPacketType.INITIAL or header.version != QuicProtocolVersion.VERSION_1:
        return None
    return header
