"""The transport over QUIC: one UDP socket that dials and accepts, driving aioquic's sans-I/O connections.

`transport` is the whole; `endpoint` owns the socket and tells connections apart; `connection` drives one of
them; `streams` are its streams; `admitting` moves the handshake of `transport.admission` over its first one.
"""

from __future__ import annotations

from transport.quic.transport import Joined, QuicOptions, QuicTransport

__all__ = ["Joined", "QuicOptions", "QuicTransport"]
