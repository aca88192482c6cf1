"""What the two ends of a `blob/1` stream say besides the bytes of the blob.

The end that opened the stream asks to get a blob or to put one, from whatever offset the receiver has it up to; the
bytes follow as DATA records, and their sender's FINISH. A blob is named by the SHA-256 of its bytes.
"""

from __future__ import annotations

from typing import Annotated, NewType

import msgspec

from transport import wire
from transport.interface import NodeId, Record, RecordKind
from transport.wire import Bytes32

PROTOCOL = "blob/1"
MAX_MESSAGE_BYTES = 256
MAX_BLOB_BYTES = 1 << 44
PIECE_BYTES = 256 << 10
"""Of a blob in one record; the last has what is left."""

BlobDigest = NewType("BlobDigest", bytes)
"""SHA-256 of a blob's bytes."""

Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOB_BYTES)]


class Get(msgspec.Struct, frozen=True, tag="get"):
    """Send me this blob from `offset` on."""

    digest: Bytes32
    offset: Size


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The bytes from the offset follow. size: of the whole blob."""

    size: Size


class Missing(msgspec.Struct, frozen=True, tag="missing"):
    """That blob is not here."""


class Put(msgspec.Struct, frozen=True, tag="put"):
    """Keep this blob for me."""

    digest: Bytes32
    size: Size


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """Send it from `offset` on: the bytes before that are here."""

    offset: Size


class Full(msgspec.Struct, frozen=True, tag="full"):
    """There is no room for it here."""


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The blob is here, whole and checked."""


Request = Get | Put
Answer = Found | Missing | Wanted | Full | Stored


def to_record(message: Request | Answer) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def read_request(record: Record | None, peer: NodeId) -> Request:
    """What a peer asks with the first record of its stream. Raises ProtocolError."""
    request: Request = wire.decode(_message(record), Get | Put, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return request


def read_found(record: Record | None, peer: NodeId) -> Found | Missing:
    """The answer to `Get`. Raises ProtocolError."""
    answer: Found | Missing = wire.decode(_message(record), Found | Missing, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return answer


def read_wanted(record: Record | None, peer: NodeId) -> Wanted | Full | Stored:
    """The answer to `Put`. Raises ProtocolError."""
    kinds = Wanted | Full | Stored
    answer: Wanted | Full | Stored = wire.decode(_message(record), kinds, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return answer


def read_stored(record: Record | None, peer: NodeId) -> Stored:
    """What ends a put. Raises ProtocolError."""
    return wire.decode(_message(record), Stored, peer=peer, max_bytes=MAX_MESSAGE_BYTES)


def _message(record: Record | None) -> bytes:
    """The payload to decode; an early end and raw bytes read as a message of no bytes, which is malformed."""
    return record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
