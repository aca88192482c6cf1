"""Every place where we reach into aioquic's private state, why, and nowhere else.

The pin `aioquic <1.8` in pyproject.toml stands for this file; its test fails when a field has moved.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection


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
