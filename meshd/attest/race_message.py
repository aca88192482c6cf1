"""What nodes say on `poc/1`: a race is agreed on, each prover works for its verifiers, and transcripts are passed on.

    caller → claimant       Call, Roster, Start          claimant → caller      Commit, Reveal, Report
    prover → verifier       Hello, Meet, Claim, Openings      verifier → prover      Promise, Shown, Sample, Verdict
    anybody → anybody       Fetch                        back                   Found and DATA, or Missing

Declined ends any of them in place of an answer. A round in which somebody withheld a reveal is begun anew, without
that peer, by another Call on the same stream. What is computed lies in bytes that only the worker's process reads.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from meshd.attest.attestation import Devices, Signed
from transport import wire
from transport.interface import MAX_RECORD_BYTES, NodeId, Record, RecordKind
from transport.wire import Bytes16, Bytes32, Bytes64

PROTOCOL = "poc/1"
MAX_CLAIMANTS = 256
"""Of one race. A larger mesh races in parts."""
MAX_ROUNDS = 3
MAX_VERIFIERS = 3
MAX_NONCES = 1 << 16
"""Of one claim: what is found beyond would make its rate surer than 0.4 %, and a claim more than one record."""
MAX_OPENINGS_BYTES = 1 << 16
MAX_MESSAGE_BYTES = MAX_RECORD_BYTES
MAX_TRANSCRIPT_BYTES = MAX_RECORD_BYTES

Message = TypeVar("Message", bound=msgspec.Struct)


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What a race is about. epoch: Unix time of the call.  share: of the nonces that is kept.  work_s: for each prover.

    profile: `Profile.digest`.
    """

    caller: Bytes32
    epoch: wire.Seconds
    salt: Bytes16
    profile: Bytes32
    share: Annotated[float, msgspec.Meta(ge=0.001, le=0.5)]
    work_s: Annotated[float, msgspec.Meta(ge=0.5, le=600)]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A claimant's: what it commits to, and the devices it proves with. vram_gb: as it says."""

    public: Bytes32
    commitment: Bytes32
    groups: Annotated[tuple[Devices, ...], msgspec.Meta(min_length=1, max_length=64)]
    vram_gb: Annotated[float, msgspec.Meta(ge=0, lt=1e6)]
    signature: Bytes64


class Pledge(msgspec.Struct, frozen=True, array_like=True):
    """A verifier's: its commitment to its part of a prover's input key."""

    public: Bytes32
    commitment: Bytes32
    signature: Bytes64


# Agreeing on a race


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Take part in a race."""

    terms: Terms
    round: Annotated[int, msgspec.Meta(ge=0, lt=MAX_ROUNDS)]


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """I take part."""

    entry: Entry


class Declined(msgspec.Struct, frozen=True, tag="declined"):
    """I do not go on with this."""

    reason: Annotated[str, msgspec.Meta(max_length=200)]


class Roster(msgspec.Struct, frozen=True, tag="roster"):
    """All who take part, by NodeId: show what you committed to."""

    entries: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=2, max_length=MAX_CLAIMANTS)]


class Reveal(msgspec.Struct, frozen=True, tag="reveal"):
    """What I committed to."""

    secret: Bytes32


class Start(msgspec.Struct, frozen=True, tag="start"):
    """What everybody committed to, in the roster's order: the race is on."""

    secrets: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=2, max_length=MAX_CLAIMANTS)]


class Report(msgspec.Struct, frozen=True, tag="report"):
    """How it went for me: what I attest of the provers that I verified, the first of them."""

    attestations: Annotated[tuple[Signed, ...], msgspec.Meta(max_length=64)]


# A prover and one of its verifiers


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """I prove to you in this race. commitment: to my part of the input key."""

    race: Bytes32
    commitment: Bytes32


class Promise(msgspec.Struct, frozen=True, tag="promise"):
    """My pledge for your input key. sample: digest of the secret that will pick the samples."""

    pledge: Pledge
    sample: Bytes32


class Meet(msgspec.Struct, frozen=True, tag="meet"):
    """My part of the input key, and the pledges of all my verifiers, by NodeId."""

    secret: Bytes32
    pledges: Annotated[tuple[Pledge, ...], msgspec.Meta(min_length=1, max_length=MAX_VERIFIERS)]


class Shown(msgspec.Struct, frozen=True, tag="shown"):
    """What I pledged."""

    secret: Bytes32


class Claim(msgspec.Struct, frozen=True, tag="claim"):
    """What I found. secrets: what the pledges were for, in their order.  nonces: u64, distances: f32, little-endian."""

    secrets: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=MAX_VERIFIERS)]
    nonces: Annotated[bytes, msgspec.Meta(max_length=8 * MAX_NONCES)]
    distances: Annotated[bytes, msgspec.Meta(max_length=4 * MAX_NONCES)]
    root: Bytes32
    signature: Bytes64


class Sample(msgspec.Struct, frozen=True, tag="sample"):
    """Open what this picks."""

    secret: Bytes32


class Openings(msgspec.Struct, frozen=True, tag="openings"):
    """What you asked for. samples: an encoded `meshd.attest.judging.Samples`."""

    samples: Annotated[bytes, msgspec.Meta(max_length=MAX_OPENINGS_BYTES)]
    signature: Bytes64


class Verdict(msgspec.Struct, frozen=True, tag="verdict"):
    """What I attest of you."""

    signed: Signed


# Transcripts


class Fetch(msgspec.Struct, frozen=True, tag="fetch"):
    """Send me this transcript."""

    digest: Bytes32


class Found(msgspec.Struct, frozen=True, tag="found"):
    """It follows as one DATA record."""


class Missing(msgspec.Struct, frozen=True, tag="missing"):
    """It is not here, or no more."""


def to_record(message: msgspec.Struct) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def read_opening(record: Record | None, peer: NodeId) -> Call | Hello | Fetch:
    """The first message of a stream. Raises ProtocolError."""
    opening: Call | Hello | Fetch = wire.decode(_message(record), Call | Hello | Fetch, peer=peer, max_bytes=1024)
    return opening


def read(record: Record | None, expected: type[Message], peer: NodeId) -> Message | Declined:
    """What comes next. Raises ProtocolError."""
    kinds = expected | Declined
    message: Message | Declined = wire.decode(_message(record), kinds, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return message


def read_round(record: Record | None, peer: NodeId) -> Start | Call:
    """What follows a reveal: the race, or another round. Raises ProtocolError."""
    message: Start | Call = wire.decode(_message(record), Start | Call, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return message


def read_found(record: Record | None, peer: NodeId) -> Found | Missing:
    """The answer to `Fetch`. Raises ProtocolError."""
    message: Found | Missing = wire.decode(_message(record), Found | Missing, peer=peer, max_bytes=64)
    return message


def _message(record: Record | None) -> bytes:
    """The payload to decode; an early end and raw bytes read as a message of no bytes, which is malformed."""
    return record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
