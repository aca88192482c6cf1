"""Drives one aioquic connection: its packets, its timer, its events, its end.

Until admission it has a `Greeting` and nothing else; whatever else a peer sends then is dropped or ends the
connection. `admit` gives it streams and datagrams. The endpoint hands it packets and asks it to transmit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from aioquic.quic import events

from transport import wire
from transport.errors import ProtocolError, ResetCode, Unreachable
from transport.interface import Address, NodeId, Peer, Stream, StreamHeader
from transport.link_effect import Slot
from transport.quic import internals
from transport.quic.greeting import GREETING_STREAM, Greeting
from transport.quic.liveness import Liveness, Verdict
from transport.quic.session import SLOT_OF, SessionSecrets
from transport.quic.streams import StreamTable
from transport.quic.udp import SocketAddress, to_address
from transport.switchboard import MAX_STREAMS
from transport.windows import Windows

logger = logging.getLogger("meshd.transport")

MAX_UNSENT_DATAGRAMS = 256
CONNECTION_WINDOW_BYTES = 8 << 20
BOUNCE_EVERY_S = 5.0
"""Heeded at most so often: the network's word is not signed."""

RETIRED_S = 30.0
"""At most this long a replaced connection serves the streams it has."""

TIMER_GRAIN_S = 0.001
"""uvloop counts in milliseconds: what is due within one is due."""

MAX_REASON_BYTES = 400


class Host(Protocol):
    """What a connection asks of its endpoint."""

    def touch(self, connection: QuicPeerConnection) -> None:
        """Transmit once everything that is ready now has run, so that many small writes share a packet."""

    def transmit(self, connection: QuicPeerConnection, now: float) -> None:
        """Transmit at once."""

    def register(self, connection_id: bytes, connection: QuicPeerConnection) -> None: ...
    def unregister(self, connection_id: bytes) -> None: ...
    def forget(self, connection: QuicPeerConnection) -> None: ...


@dataclass(frozen=True, slots=True)
class Uses:
    """What an admitted connection feeds.

    connected: told once both ends have accepted each other.  answered: told of every answer to a ping.
    bounced: told that the network says nobody listens at the peer's port any more.
    ended: told once, with why and whether the peer fell silent, unless we ended it.
    streams_beside: how many streams on other carriers end with this connection; a retired one stays for them.
    """

    connected: Callable[[], None]
    stream_arrived: Callable[[Stream], None]
    datagram_arrived: Callable[[NodeId, bytes], None]
    answered: Callable[[], None]
    bounced: Callable[[], None]
    ended: Callable[[str, bool], None]
    windows: Windows
    streams_beside: Callable[[], int]


class QuicPeerConnection:
    """Implements `switchboard.Connection` once admitted."""

    def __init__(
        self, host: Host, quic: internals.BoundedConnection, secrets: SessionSecrets, address: SocketAddress
    ) -> None:
        self._host = host
        self._quic = quic
        self._secrets = secrets
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._liveness = Liveness(monotonic())
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._pings: dict[int, float] = {}
        self._ping_number = 0
        self._streams: StreamTable | None = None
        self._uses: Uses | None = None
        self._streams_beside: Callable[[], int] = int
        self._peer: Peer | None = None
        self._end_reason: str | None = None
        self._is_confirmed = False
        self._retired_until: float | None = None
        self._bounced_at = float("-inf")
        self._empty_checks = 0
        self.slot = Slot.CONTROL
        """What the end that dials asked for; known once `secured`."""
        self.greeting = Greeting(self._greet)
        self.secured: asyncio.Future[bytes] = self._loop.create_future()
        """The channel binding, once the TLS handshake is complete."""
        self.ended = asyncio.Event()
        self.admitted_at = 0.0
        self.rtt_ms: float | None = None
        self.bytes_sent = 0
        self.bytes_received = 0

    # For whoever admits the peer

    @property
    def is_dialled_here(self) -> bool:
        return self._quic.configuration.is_client

    @property
    def socket_address(self) -> SocketAddress:
        """Where this connection began."""
        return self._address

    @property
    def address(self) -> Address:
        """Where the peer is now: a server follows a client whose address changes (RFC 9000 §9)."""
        return to_address(self._quic.get_peer_address() or self._address)

    @property
    def is_admitted(self) -> bool:
        """Whether a peer was let in here, and the connection has not ended."""
        return self._peer is not None and self._end_reason is None

    @property
    def is_retired(self) -> bool:
        """Whether it was replaced and only serves the streams it has."""
        return self._retired_until is not None

    @property
    def peer(self) -> Peer:
        assert self._peer is not None, "nobody is admitted on this connection yet"
        return self._peer

    @property
    def peer_address(self) -> SocketAddress | None:
        """Where packets go now."""
        return self._quic.get_peer_address()

    @property
    def peer_connection_id(self) -> bytes:
        """What packets to the peer are marked with now."""
        return internals.peer_connection_id(self._quic)

    def connect(self, now: float) -> None:
        """Begin the handshake as the end that dials."""
        self._quic.connect(self._address, now)
        self._host.touch(self)

    def admit(self, peer: Peer, uses: Uses) -> None:
        """Let `peer` open streams and send datagrams from now on. Raises Unreachable when it is gone already."""
        if self._end_reason is not None:
            raise Unreachable(self._end_reason)
        self._peer = peer
        self.admitted_at = monotonic()
        self._uses = uses
        self._streams_beside = uses.streams_beside
        limit = MAX_STREAMS[self.slot]
        self._streams = StreamTable(self._quic, peer, limit, self._asked, uses.stream_arrived, uses.windows)
        internals.widen(self._quic, limit, CONNECTION_WINDOW_BYTES)
        self._ping(monotonic())
        # An end that dialled was accepted before it accepts; the other waits for the end of the greeting.
        if self.is_dialled_here or self.greeting.has_ended:
            self._confirm()

    # For the switchboard

    @property
    def idle_s(self) -> float:
        return self._streams.idle_s if self._streams is not None else 0.0

    async def open(self, header: StreamHeader) -> Stream:
        assert self._streams is not None
        return await self._streams.open(header)

    def send_datagram(self, payload: bytes) -> None:
        internals.drop_oldest_datagrams(self._quic, MAX_UNSENT_DATAGRAMS - 1)
        self._quic.send_datagram_frame(payload)
        self._asked()

    def probe(self) -> None:
        self._ping(monotonic())

    def retire(self, reason: str) -> None:
        self._uses = None
        self._retired_until = monotonic() + RETIRED_S

    def close(self, reason: str, code: int = 0) -> None:
        """End the connection, telling the peer why; its streams fail here at once."""
        if self._end_reason is None:
            self._uses = None
            self._quic.close(error_code=code, reason_phrase=reason[:MAX_REASON_BYTES])
            self._end(reason)
            self._host.touch(self)

    def abandon(self, reason: str) -> None:
        """Give up a dial. A peer that never answered knows nothing of it, and is told nothing."""
        if self.bytes_received:
            self.close(reason)
        elif self._end_reason is None:
            self._end(reason)
            self._host.forget(self)

    def cut(self, reason: str, code: int) -> None:
        """End the connection for what the peer is: unlike after `close`, whoever uses it is told."""
        self._lost(reason, code)

    # For the endpoint

    def datagram_received(self, data: bytes, address: SocketAddress, now: float) -> None:
        self.bytes_received += len(data)
        try:
            self._quic.receive_datagram(data, address, now)
        except Exception as error:  # a stranger's bytes in a library: no error of its may reach other peers
            logger.warning("closing the connection with %s: its packet broke aioquic", self.address, exc_info=error)
            self._lost("unreadable packet", ResetCode.PROTOCOL_ERROR)
        self._liveness.heard(now)
        self._take_events(now)
        self._host.touch(self)

    def bounced(self, now: float) -> None:
        """A packet to the peer came back: nobody listens there."""
        if self._uses is not None and now - self._bounced_at >= BOUNCE_EVERY_S:
            self._bounced_at = now
            self._uses.bounced()

    def to_send(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """Packets that may leave now, and where to; sets the timer anew."""
        if self._quic.get_peer_address() is None:
            return []  # a stranger whose first packet was not even readable
        packets: list[tuple[bytes, SocketAddress]] = self._quic.datagrams_to_send(now)
        for data, _ in packets:
            self.bytes_sent += len(data)
        self._arm()
        return packets

    def check(self, now: float) -> None:
        """Look for signs of life; called about twice a second."""
        if self._peer is None or self._end_reason is not None:
            return
        match self._liveness.check(now, is_waiting=bool(self._streams)):
            case Verdict.PING:
                self._ping(now)
            case Verdict.SILENT:
                self._lost("no sign of life for several seconds", was_silent=True)
            case Verdict.FINE:
                self._close_if_retired(now)

    def stop(self) -> None:
        """The endpoint closes: no timer may outlive it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Timer

    def _arm(self) -> None:
        wake_at = self._quic.get_timer()
        if wake_at is None:
            return
        if self._timer is not None:
            if self._timer_at <= wake_at:
                return  # fires early, finds nothing due and is set again: cheaper than moving it for every packet
            self._timer.cancel()
        self._timer_at = wake_at
        self._timer = self._loop.call_at(wake_at, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        wake_at = self._quic.get_timer()
        if wake_at is None:
            return
        now = monotonic()
        if wake_at - now < TIMER_GRAIN_S:
            now = max(now, wake_at)
            self._quic.handle_timer(now)
            self._take_events(now)
        self._host.transmit(self, now)

    # Events

    def _take_events(self, now: float) -> None:
        while (event := self._quic.next_event()) is not None:
            try:
                self._take(event, now)
            except ProtocolError as error:
                self.greeting.lost(error)
                self._lost(str(error), ResetCode.PROTOCOL_ERROR)

    def _take(self, event: events.QuicEvent, now: float) -> None:
        match event:
            case events.StreamDataReceived(data=data, end_stream=end, stream_id=number):
                self._stream_data(number, data, end)
            case events.DatagramFrameReceived(data=data):
                self._datagram(data)
            case events.StreamReset(error_code=code, stream_id=number):
                self._stream_reset(number, code)
            case events.StopSendingReceived(error_code=code, stream_id=number):
                self._stream_reset(number, code)
            case events.PingAcknowledged(uid=uid):
                self._pong(uid, now)
            case events.ConnectionIdIssued(connection_id=connection_id):
                self._host.register(connection_id, self)
            case events.ConnectionIdRetired(connection_id=connection_id):
                self._host.unregister(connection_id)
            case events.HandshakeCompleted(alpn_protocol=alpn):
                self._handshake_completed(alpn)
            case events.ConnectionTerminated(error_code=code, reason_phrase=reason):
                self._terminated(code, reason)
            case _:
                pass

    def _handshake_completed(self, alpn: str | None) -> None:
        if alpn not in SLOT_OF:
            raise ProtocolError(f"expected ALPN {' or '.join(SLOT_OF)}, got {alpn!r}")
        self.slot = SLOT_OF[alpn]
        if not self.secured.done():
            self.secured.set_result(self._secrets.binding())

    def _stream_data(self, number: int, data: bytes, end: bool) -> None:
        if number == GREETING_STREAM:
            self.greeting.data_received(data, end)
            if self.greeting.has_ended and self._streams is not None:
                self._confirm()
        elif self._streams is not None:
            self._confirm()
            self._streams.data_received(number, data, end)
        else:
            raise ProtocolError(f"expected admission first, got data on stream {number}")

    def _datagram(self, data: bytes) -> None:
        if self._streams is None:
            return  # overtook the end of the admission, or tries its luck
        self._confirm()
        if self._uses is not None:
            self._uses.datagram_arrived(self.peer.node, data)

    def _stream_reset(self, number: int, code: int) -> None:
        if number == GREETING_STREAM:
            self.greeting.lost(Unreachable("peer reset the admission stream"))
        elif self._streams is not None:
            self._streams.reset_received(number, code)

    def _confirm(self) -> None:
        """Both ends have accepted: the peer ended its greeting, or uses the connection, which says the same."""
        if not self._is_confirmed and self._uses is not None:
            self._is_confirmed = True
            self._uses.connected()

    def _terminated(self, code: int, reason: str) -> None:
        self._lost(f"connection closed: {wire.printable(reason, 200) or f'code {code}'}")
        self._host.forget(self)

    def _lost(self, reason: str, code: int = 0, was_silent: bool = False) -> None:
        """The connection is over, and not by the wish of anyone here."""
        if self._end_reason is not None:
            return
        uses = self._uses
        self.close(reason, code)
        if uses is not None:
            uses.ended(reason, was_silent)

    def _end(self, reason: str) -> None:
        self._end_reason = reason
        self.ended.set()
        self.greeting.lost(Unreachable(reason))
        if not self.secured.done():
            self.secured.set_exception(Unreachable(reason))
            self.secured.exception()  # nobody need be waiting for it
        if self._streams is not None:
            self._streams.lost(reason)

    def _close_if_retired(self, now: float) -> None:
        """Some checks after the last stream went, so that its last bytes have arrived; or when time is up."""
        if self._retired_until is None:
            return
        is_needed = bool(self._streams) or self._streams_beside() > 0
        self._empty_checks = 0 if is_needed else self._empty_checks + 1
        if self._empty_checks >= 3 or now >= self._retired_until:
            self.close("replaced by another connection")

    # Sending

    def _greet(self, data: bytes, end: bool) -> None:
        if self._end_reason is None:
            self._quic.send_stream_data(GREETING_STREAM, data, end)
            self._asked()

    def _asked(self) -> None:
        self._liveness.asked(monotonic())
        self._host.touch(self)

    def _ping(self, now: float) -> None:
        self._ping_number += 1
        self._pings[self._ping_number] = now
        self._quic.send_ping(self._ping_number)
        self._asked()

    def _pong(self, uid: int, now: float) -> None:
        sent_at = self._pings.pop(uid, None)
        if sent_at is None:
            return
        sample_ms = (now - sent_at) * 1000.0
        self.rtt_ms = sample_ms if self.rtt_ms is None else 0.75 * self.rtt_ms + 0.25 * sample_ms
        if self._uses is not None:
            self._uses.answered()
