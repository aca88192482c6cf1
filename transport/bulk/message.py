"""What two nodes say over their QUIC connection, on a `bulk/1` stream, before there is a lane.

The end that dialled the QUIC connection dials the lane too, since that way round packets are known to pass. It sends
`Want` and gets a `Grant`. The other end, when it wants a lane, sends `DialMe` and hears `Dialled` once there is one.
A node that has its bulk lane off resets the stream.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from transport import wire
from transport.bulk.ticket import TICKET_BYTES
from transport.interface import NodeId, Record, RecordKind

PROTOCOL = "bulk/1"
MAX_MESSAGE_BYTES = 2048

Certificate = Annotated[bytes, msgspec.Meta(min_length=1, max_length=1024)]
"""A node's self-signed TLS certificate, DER; about 250 bytes."""
Ticket = Annotated[bytes, msgspec.Meta(min_length=TICKET_BYTES, max_length=TICKET_BYTES)]


class Want(msgspec.Struct, frozen=True, tag="want"):
    """Give me a ticket. certificate: the one that I shall show."""

    certificate: Certificate


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """Dial this TCP port where the QUIC connection ends, expect this certificate, and show this ticket."""

    ticket: Ticket
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    certificate: Certificate


class DialMe(msgspec.Struct, frozen=True, tag="dial-me"):
    """You dialled this connection: dial the lane as well."""


class Dialled(msgspec.Struct, frozen=True, tag="dialled"):
    """There is a lane now."""


def to_record(message: Want | Grant | DialMe | Dialled) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def read_wish(record: Record | None, peer: NodeId) -> Want | DialMe:
    """What a peer asks with the first record of its stream. Raises ProtocolError."""
    wish: Want | DialMe = wire.decode(_message(record), Want | DialMe, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return wish


def read_grant(record: Record | None, peer: NodeId) -> Grant:
    """The answer to `Want`. Raises ProtocolError."""
    return wire.decode(_message(record), Grant, peer=peer, max_bytes=MAX_MESSAGE_BYTES)


def read_dialled(record: Record | None, peer: NodeId) -> Dialled:
    """The answer to `DialMe`. Raises ProtocolError."""
    return wire.decode(_message(record), Dialled, peer=peer, max_bytes=MAX_MESSAGE_BYTES)


def _message(record: Record | None) -> bytes:
    """The payload to decode; an early end and raw bytes read as a message of no bytes, which is malformed."""
    return record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
