"""What a host and a worker say about leases on `lease/1`: one question, one answer a stream.

A lease is what a worker grants the host that claims a resource: the worker's help for a while, in one term.
Who gets one is decided in `grant`, what the host does with it in `tenure`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from gossip.lease import Resource, Term
from transport import wire
from transport.interface import NodeId
from transport.wire import Bytes16, Counter

PROTOCOL = "lease/1"
MAX_MESSAGE_BYTES = 1024

LEASE_S = 10.0
"""How long a worker keeps a grant that is not renewed, from when it answered."""
RENEW_S = 3.0
USABLE_SHARE = 0.8
"""Of a grant's time, from when the host asked. Both count on clocks of their own: those may differ by a quarter."""

LeaseKind = Literal["work", "vote"]
"""work: the worker computes for the host.  vote: it only says that it grants this to nobody else (`quorum`)."""


class RefusalCode(StrEnum):
    """Why there is no lease."""

    STALE_TERM = "stale_term"
    NOT_CLAIMED = "not_claimed"
    NOT_HELD = "not_held"
    BUSY = "busy"
    NO_ROOM = "no_room"


class LeaseRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="request"):
    """Grant a lease of this id, or renew it. lease: random, of the host's choosing, never used again once let go.

    is_new: the host has not been granted it yet.  memory_bytes: what the host means to use at the worker.
    """

    resource: Resource
    term: Term
    lease: Bytes16
    is_new: bool
    purpose: LeaseKind = "work"
    memory_bytes: Counter = 0


class LeaseRelease(msgspec.Struct, frozen=True, tag_field="kind", tag="release"):
    """The host has stopped using this lease, for good."""

    resource: Resource
    lease: Bytes16
    purpose: LeaseKind = "work"


class LeaseGranted(msgspec.Struct, frozen=True, tag_field="kind", tag="granted"):
    """lasts_ms: at the worker, from its answer."""

    lasts_ms: Annotated[int, msgspec.Meta(ge=1000, le=600_000)]


class LeaseReleased(msgspec.Struct, frozen=True, tag_field="kind", tag="released"):
    """The worker does not hold that lease, now or any more."""


class LeaseRefused(msgspec.Struct, frozen=True, tag_field="kind", tag="refused"):
    """term: the highest that the worker knows of, 0 for none.  retry_ms: before that the answer will not change.

    is_led: another host's claim to that term, or a higher, stands in the worker's view.
    """

    code: RefusalCode
    words: Annotated[str, msgspec.Meta(max_length=200)]
    term: Counter = 0
    retry_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    is_led: bool = False


Question = LeaseRequest | LeaseRelease
Reply = LeaseGranted | LeaseReleased | LeaseRefused


def read_question(message: bytes, peer: NodeId) -> Question:
    """What a host wants. Raises ProtocolError."""
    question: Question = wire.decode(message, LeaseRequest | LeaseRelease, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return question


def read_reply(message: bytes, peer: NodeId) -> Reply:
    """What a worker answers. Raises ProtocolError."""
    reply: Reply = wire.decode(
        message, LeaseGranted | LeaseReleased | LeaseRefused, peer=peer, max_bytes=MAX_MESSAGE_BYTES
    )
    return reply


_LEASE_TEXT = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,15})", re.ASCII)


def lease_text(lease: bytes, term: int) -> str:
    """How a tunnel names the lease that it is opened under."""
    return f"{lease.hex()}.{term}"


def read_lease_text(text: str) -> tuple[bytes, int] | None:
    """Lease and term that `text` names; None when it is no such text."""
    found = _LEASE_TEXT.fullmatch(text)
    return (bytes.fromhex(found[1]), int(found[2])) if found else None
