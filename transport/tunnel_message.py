"""What the two ends of a `tunnel/1` stream say to each other besides the bytes themselves.

The end that opened the stream speaks first: `Open`, or `Resume` after a lost link; the other answers `Attached`,
or `Denied`. Then DATA records carry the pipe's bytes from the offset that the other end named, and `Taken` and
`Ended` go between them. Offsets count a direction's bytes from its start; its end takes one more, so that an end
is acknowledged as bytes are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from transport import wire
from transport.errors import MeshError
from transport.interface import NodeId, Record, RecordKind
from transport.wire import Bytes16, Counter, ShortText

PROTOCOL = "tunnel/1"
MAX_MESSAGE_BYTES = 1024
MIN_WINDOW_BYTES = 4 << 10
MAX_WINDOW_BYTES = 16 << 20

Window = Annotated[int, msgspec.Meta(ge=MIN_WINDOW_BYTES, le=MAX_WINDOW_BYTES)]
MAX_REASON_LENGTH = 200
LeaseText = Annotated[str, msgspec.Meta(max_length=160)]
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON_LENGTH)]


class Denial(StrEnum):
    """Why there is no tunnel.

    NO_SERVICE: nothing of that name is offered.  NO_LEASE: the lease that the opener names is not the one that holds.
    NOT_ALLOWED: this peer may not use the service.  BUSY: too many tunnels already.  UNAVAILABLE: the service did not
    answer.  NO_TUNNEL: none of this peer's tunnels has that id, any more or ever.
    """

    NO_SERVICE = "no_service"
    NO_LEASE = "no_lease"
    NOT_ALLOWED = "not_allowed"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    NO_TUNNEL = "no_tunnel"


class ServiceRefused(MeshError):
    """There will be no tunnel: what an `Admit` raises to say no, and what the opener gets then. Not to be retried."""

    def __init__(self, code: Denial, message: str) -> None:
        super().__init__(message)
        self.code = code


class Position(msgspec.Struct, frozen=True):
    """How far one end is with what comes from the other. arrived: here in order.  taken: by the pipe here."""

    arrived: Counter
    taken: Counter


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Begin a tunnel. tunnel: 16 random bytes, which only its two ends know.  window: as in `Attached`.

    lease, term: by what right; whoever offers the service judges them.
    """

    tunnel: Bytes16
    service: ShortText
    lease: LeaseText
    window: Window
    term: Counter = 0


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Go on with a tunnel that this same node opened, over this stream instead of the last."""

    tunnel: Bytes16
    position: Position


class Attached(msgspec.Struct, frozen=True, tag="attached"):
    """This stream carries the tunnel now. window: how far the other may be ahead of what the pipe here took."""

    position: Position
    window: Window


class Denied(msgspec.Struct, frozen=True, tag="denied"):
    """There is no tunnel, or not any more. reason: for people."""

    code: Denial
    reason: Reason


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """The pipe here has taken everything before `offset`."""

    offset: Counter


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The pipe here has no more bytes to send (FIN)."""


Request = Open | Resume
Answer = Attached | Denied
Frame = Taken | Ended


def to_record(message: Request | Answer | Frame) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def read_request(record: Record | None, peer: NodeId) -> Request:
    """What a peer asks with the first record of its stream. Raises ProtocolError."""
    message: Request = wire.decode(_message(record), Open | Resume, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return message


def read_answer(record: Record | None, peer: NodeId) -> Answer:
    """The answer to a request. Raises ProtocolError."""
    answer: Answer = wire.decode(_message(record), Attached | Denied, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return answer


def read_frame(record: Record, peer: NodeId) -> bytes | Frame:
    """Bytes of the pipe, or what is said about them. Raises ProtocolError."""
    if record.kind is RecordKind.DATA:
        return record.payload
    frame: Frame = wire.decode(record.payload, Taken | Ended, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return frame


def _message(record: Record | None) -> bytes:
    """The payload to decode; an early end and raw bytes read as a message of no bytes, which is malformed."""
    return record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
