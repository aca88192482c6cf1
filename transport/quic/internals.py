"""Every place where we reach into aioquic's private state, why, and nowhere else.

The pin `aioquic <1.8` in pyproject.toml stands for this file; its test fails when a field has moved.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection
from aioquic.quic.recovery import QuicPacketPacer

BURST_S = 0.002
PACING_GAIN = 1.25


def allow_streams(quic: QuicConnection, bidirectional: int) -> None:
    """Set how many streams the peer may open before anything is sent; aioquic offers 128 of each kind.

    A peer that is not admitted needs one, or none.
    """
    quic._local_max_streams_bidi.value = quic._local_max_streams_bidi.sent = bidirectional
    quic._local_max_streams_uni.value = quic._local_max_streams_uni.sent = 0


def widen(quic: QuicConnection, bidirectional: int, window_bytes: int) -> None:
    """Raise the peer's limits on a running connection; aioquic announces them with its next packet."""
    quic._local_max_streams_bidi.value = max(quic._local_max_streams_bidi.value, bidirectional)
    quic._local_max_data.value = max(quic._local_max_data.value, window_bytes)


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
