"""The TLS session below a connection: its configuration, and the secrets that name it to admission.

TLS only encrypts here. Certificates are self-signed and unchecked, because `transport.admission` proves
who is there and binds the proof to this very session.
"""

from __future__ import annotations

import ssl
from typing import TextIO, cast

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

from transport.handshake import channel_binding
from transport.identity import NodeKey, self_signed_certificate
from transport.interface import MAX_DATAGRAM_BYTES
from transport.link_effect import Slot

ALPN = "meshd/1"
DATA_ALPN = "meshd-data/1"
SLOT_OF = {ALPN: Slot.CONTROL, DATA_ALPN: Slot.DATA}
"""What a connection is for is said in its TLS handshake, so both ends agree on it and nobody between changes it."""

CONNECTION_ID_BYTES = 8
IDLE_TIMEOUT_S = 120.0
MAX_UDP_PAYLOAD_BYTES = 1452
"""What an Ethernet frame leaves after IPv6 and UDP headers. Where a path carries less, IP fragments."""

ADMISSION_WINDOW_BYTES = 16 << 10
"""Connection window until a peer is admitted, so that a stranger cannot make us keep more."""

STREAM_WINDOW_BYTES = 1 << 20
"""Of QUIC itself, for a stream that has carried nothing yet; `internals` raises it. Our own credit is the bound."""

_LABELS = ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0")


class SessionSecrets:
    """The file-like object to which aioquic logs a session's secrets. One per connection, or sessions mix."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}

    def write(self, line: str) -> int:
        label, _, secret = line.split()
        if label in _LABELS:
            self._secrets[label] = bytes.fromhex(secret)
        return len(line)

    def flush(self) -> None:
        """Nothing is buffered."""

    def binding(self) -> bytes:
        """What both ends of this session, and no others, can compute. Call once the handshake is complete."""
        client, server = (self._secrets[label] for label in _LABELS)
        return channel_binding(client, server)


class SessionFactory:
    """Makes the configuration of every connection of one node. now: wall clock, for the certificate."""

    def __init__(self, key: NodeKey, now: float) -> None:
        self._certificate, self._private_key = self_signed_certificate(key, now)

    def configuration(self, dialling: Slot | None = None) -> tuple[QuicConfiguration, SessionSecrets]:
        """A configuration of its own for one connection: to dial one of a kind, or to accept either.

        No tickets are ever issued or kept, so no 0-RTT.
        """
        secrets = SessionSecrets()
        is_client = dialling is not None
        configuration = QuicConfiguration(
            alpn_protocols=[alpn for alpn, slot in SLOT_OF.items() if dialling in (None, slot)],
            connection_id_length=CONNECTION_ID_BYTES,
            idle_timeout=IDLE_TIMEOUT_S,
            is_client=is_client,
            max_data=ADMISSION_WINDOW_BYTES,
            max_datagram_size=MAX_UDP_PAYLOAD_BYTES,
            max_stream_data=STREAM_WINDOW_BYTES,
            secrets_log_file=cast(TextIO, secrets),
            certificate=None if is_client else self._certificate,
            private_key=None if is_client else self._private_key,
            # The limit counts the frame's type and length too; a peer that sends more is cut by aioquic.
            max_datagram_frame_size=MAX_DATAGRAM_BYTES + 4,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            verify_mode=ssl.CERT_NONE,
        )
        return configuration, secrets
