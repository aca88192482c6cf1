"""The four frames of blobs: `BPUT` → `BOKD`, `BGET` → `BBLB`. Pure."""

from __future__ import annotations

import struct

from transport.blob_message import BlobDigest

PUT, STORED, GET, BLOB = b"BPUT", b"BOKD", b"BGET", b"BBLB"
PUT_HEAD = struct.Struct("<4sQ")
GET_FRAME = struct.Struct("<4s32s")
MAGICS = (PUT, STORED, GET, BLOB)


def put_length(head: bytes) -> int:
    """Length of the bytes that follow `BPUT` and a u64."""
    length: int = PUT_HEAD.unpack(head)[1]
    return length


def asked_digest(frame: bytes) -> BlobDigest:
    """The digest behind `BGET`."""
    return BlobDigest(GET_FRAME.unpack(frame)[1])


def stored_frame(digest: BlobDigest) -> bytes:
    """The answer to a put."""
    return STORED + digest


def blob_head(size: int) -> bytes:
    """What stands before the bytes that were asked for."""
    return PUT_HEAD.pack(BLOB, size)
