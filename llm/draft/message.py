"""What a host and its drafter say on `draft/1`: one Wanted, then Ready or Refused, then blocks until either ends.

A block is a Question and its Proposal, both as packed DATA records, for they are small and many: 4 + 1 + 4 bytes go one
way when the drafter is told one new token, 2 + 4k come back. The drafter keeps what it was told and what it drafted;
`keep` says how much of that stands.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from llm.offer import Hex, Name
from transport import wire
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId, Record, RecordKind

PROTOCOL = "draft/1"
MAX_MESSAGE_BYTES = 1024
MOST_DRAFTED = 16
MOST_NEW = 16 << 10
"""Tokens in one Question; a longer text comes in several that only tell."""
MOST_TOKENS = 1 << 18
"""Of one conversation; a longer one goes on without drafts."""
IDLE_S = 120.0
"""After so long without a block the drafter lets a conversation go."""

TICK_S = 1e-4
MOST_TICKS = 0xFFFF
_QUESTION = struct.Struct("!IB")
_PROPOSAL = struct.Struct("!H")
_ID_BYTES = 4

Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e6)]


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """Draft for a model of this vocabulary. vocabulary: SHA-256 of its tokens, as `ModelFile.vocabulary_digest`."""

    vocabulary: Hex


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Ask now. model: that drafts.  token_s: what each token takes there.

    round_trip_s: 0; the host's agent fills in what its link says.
    """

    model: Name
    token_s: Seconds
    round_trip_s: Seconds = 0.0


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Nobody drafts. reason: for people."""

    reason: Annotated[str, msgspec.Meta(max_length=500)]


@dataclass(frozen=True, slots=True)
class Question:
    """keep: of what the drafter has, told and drafted.  new: tokens that follow it.

    count: to draft; 0 only tells, and is not answered.
    """

    keep: int
    new: Sequence[int]
    count: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """ids: as many as were asked for, or fewer.  took_s: at the drafter, from the question's arrival on, to 0.1 ms."""

    ids: Sequence[int]
    took_s: float


def to_record(message: Wanted | Ready | Refused) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def write_question(question: Question) -> Record:
    return Record(RecordKind.DATA, _QUESTION.pack(question.keep, question.count) + _pack(question.new))


def write_proposal(proposal: Proposal) -> Record:
    ticks = min(MOST_TICKS, round(proposal.took_s / TICK_S))
    return Record(RecordKind.DATA, _PROPOSAL.pack(ticks) + _pack(proposal.ids))


def read_wanted(record: Record | None, peer: NodeId | None) -> Wanted:
    """Raises ProtocolError."""
    payload = record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
    return wire.decode(payload, Wanted, peer=peer, max_bytes=MAX_MESSAGE_BYTES)


def read_answer(record: Record | None, peer: NodeId | None) -> Ready | Refused:
    """What a drafter says before the first block. Raises ProtocolError."""
    payload = record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
    answer: Ready | Refused = wire.decode(payload, Ready | Refused, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return answer


def read_question(record: Record, peer: NodeId | None) -> Question:
    """Raises ProtocolError. That `keep` is no more than there is, and the ids are tokens, is for the drafter to see."""
    payload = _data(record, _QUESTION.size, MOST_NEW, peer)
    keep, count = _QUESTION.unpack_from(payload)
    if count > MOST_DRAFTED or keep > MOST_TOKENS:
        raise ProtocolError(f"draft/1: {_who(peer)} wants {count} tokens behind {keep}: more than may be")
    return Question(keep, _unpack(payload, _QUESTION.size), count)


def read_proposal(record: Record, peer: NodeId | None) -> Proposal:
    """Raises ProtocolError."""
    payload = _data(record, _PROPOSAL.size, MOST_DRAFTED, peer)
    (ticks,) = _PROPOSAL.unpack_from(payload)
    return Proposal(_unpack(payload, _PROPOSAL.size), ticks * TICK_S)


def _data(record: Record, head_bytes: int, most_ids: int, peer: NodeId | None) -> bytes:
    size = len(record.payload)
    if record.kind is not RecordKind.DATA or not head_bytes <= size <= head_bytes + most_ids * _ID_BYTES:
        expected = f"{head_bytes} to {head_bytes + most_ids * _ID_BYTES} bytes of data"
        raise ProtocolError(f"draft/1: expected {expected}, got a {record.kind.name} of {size} from {_who(peer)}")
    if (size - head_bytes) % _ID_BYTES:
        raise ProtocolError(f"draft/1: {_who(peer)} sent {size} bytes, which are no whole number of tokens")
    return record.payload


def _who(peer: NodeId | None) -> str:
    return f"node {short(peer)}" if peer is not None else "this host"


def _pack(ids: Sequence[int]) -> bytes:
    return struct.pack(f"!{len(ids)}I", *ids)


def _unpack(payload: bytes, start: int) -> tuple[int, ...]:
    return struct.unpack_from(f"!{(len(payload) - start) // _ID_BYTES}I", payload, start)
