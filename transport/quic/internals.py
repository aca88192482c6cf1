"""Every place where we reach into aioquic's private state, why, and nowhere else.

The pin `aioquic <1.8` in pyproject.toml stands for this file; its test fails when a field has moved.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketSpace
from aioquic.quic.stream import QuicStream

BURST_S = 0.002
PACING_GAIN = 1.25
STREAM_WINDOW_BYTES = 4 << 20
"""Of one stream, once it has carried something; our own credit (1 to 4 MiB) is what holds a sender back."""


class BoundedConnection(QuicConnection):
    """Lets a peer send so much beyond what has arrived whole, and no more.

    aioquic doubles a limit whenever half of it is used, where used means the highest offset seen. So one byte at the
    end of the limit made it keep room for everything before, and raise the limit: a stranger who had proved nothing
    could double that room with every round trip.
    """

    window_bytes = 0
    """Of all streams together; 0 until `widen`, when what was allowed at first is all there is."""

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        if limit.value - limit.used < self.window_bytes // 2:
            limit.value = max(limit.value, limit.used - self._missing_bytes() + self.window_bytes)
        used, limit.used = limit.used, 0  # hides the reason to double it
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        receiver = stream.receiver
        highest = receiver.highest_offset
        if highest * 2 > stream.max_stream_data_local and not receiver.is_finished:
            wanted = receiver.starting_offset() + STREAM_WINDOW_BYTES
            if wanted - stream.max_stream_data_local >= STREAM_WINDOW_BYTES // 4:
                stream.max_stream_data_local = wanted
        if stream.max_stream_data_local != stream.max_stream_data_local_sent:
            receiver.highest_offset = 0
            try:
                super()._write_stream_limits(builder, space, stream)
            finally:
                receiver.highest_offset = highest

    def _missing_bytes(self) -> int:
        """What streams keep room for, from the first byte that has not arrived to the last that has."""
        return sum(len(stream.receiver._buffer) for stream in self._streams.values())


def allow_streams(quic: QuicConnection, bidirectional: int) -> None:
    """Set how many streams the peer may open before anything is sent; aioquic offers 128 of each kind.

    A peer that is not admitted needs one, or none.
    """
    quic._local_max_streams_bidi.value = quic._local_max_streams_bidi.sent = bidirectional
    quic._local_max_streams_uni.value = quic._local_max_streams_uni.sent = 0


def widen(quic: BoundedConnection, bidirectional: int, window_bytes: int) -> None:
    """Raise the peer's limits on a running connection; aioquic announces them with its next packet."""
    quic._local_max_streams_bidi.value = max(quic._local_max_streams_bidi.value, bidirectional)
    quic.window_bytes = window_bytes


def peer_connection_id(quic: QuicConnection) -> bytes:
    """The connection id that the peer chose for packets to it, the one in use."""
    connection_id: bytes = quic._peer_cid.cid
    return connection_id


def drop_oldest_datagrams(quic: QuicConnection, keep: int) -> int:
    """Bound what waits for congestion control; aioquic's own queue has no end. Returns how many went."""
    waiting = quic._datagrams_pending
    excess = max(0, len(waiting) - keep)
    for _ in range(excess):
        waiting.popleft()
    return excess


class BurstPacer(QuicPacketPacer):
    """Paces by the millisecond instead of by the packet.

    aioquic lets 16 packets go and then waits for a timer per packet, tens of microseconds on a LAN. Timers count in
    milliseconds (uvloop) or cost a loop turn each, so most of the time nothing was sent: 64 MB took 13 s of wall
    time for 3.6 s of CPU. Bursts of `BURST_S` at 1.25 times the rate (RFC 9002 §7.7) take that waiting away.
    """

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(int(congestion_window * PACING_GAIN), smoothed_rtt)
        self.bucket_max = max(self.bucket_max, BURST_S)


def pace_in_bursts(quic: QuicConnection) -> None:
    """Give the connection a `BurstPacer`. Before the handshake."""
    quic._loss._pacer = BurstPacer(max_datagram_size=quic.configuration.max_datagram_size)
