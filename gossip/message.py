"""The words nodes exchange, and their encoding.

A *rumour* is encoded once by whoever first says it and travels as those bytes, in datagrams and in
anti-entropy alike: signed statements about oneself (a member record, a fact) and accusations of others.
A *packet* carries at most one probe word, as many rumours as fit, and facts that it only names. Digest and delta use
streams.
What a rumour means, and whether to believe it, is decided in `member`, `facts` and `roster`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from gossip.view import Status
from transport import wire
from transport.interface import MAX_DATAGRAM_BYTES, MAX_RECORD_BYTES, NodeId

MAX_MEMBERS = 1024
MAX_FACTS_PER_NODE = 32
MAX_FACT_BYTES = 64 * 1024
MAX_INLINE_FACT_BYTES = 512
"""A larger value is not put in a datagram: only its signed header is, and the value is pulled over a stream."""

MAX_RUMOURS_PER_PACKET = 32
MAX_RUMOUR_BYTES = MAX_FACT_BYTES + 1024
PACKET_OVERHEAD_BYTES = 64
"""Room kept for everything in a packet that is not a rumour: tags, lengths, the probe word."""

PREFIX_BYTES = 8
"""Of a node's id, where nothing is believed by it: whoever made two ids alike would only be told of its facts later."""

MAX_OUTLINE_ENTRIES = 32
MAX_OUTLINE_ENTRY_BYTES = 29
"""A prefix and two numbers of nine bytes, with what says so."""

PAGE_BYTES = 256 * 1024
"""Soft bound of one delta page; with one fact past it, still far below a record's limit."""

Sequence = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
RumourBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_RUMOUR_BYTES)]
OutlineBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_OUTLINE_ENTRY_BYTES)]
AgeSeconds = Annotated[float, msgspec.Meta(ge=0)]


class MemberRumour(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A member's statement about itself. body: an encoded `member.MemberBody`."""

    body: Annotated[bytes, msgspec.Meta(max_length=640)]
    certificate: Annotated[bytes, msgspec.Meta(max_length=1024)]
    signature: wire.Bytes64


class Accusation(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """`accuser` had no answer from `subject`, in that life of it. dead: its suspicion ran out."""

    subject: wire.Bytes32
    boot: wire.Counter
    incarnation: wire.Counter
    dead: bool
    accuser: wire.Bytes32


class FactRumour(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A fact of its signer. header: an encoded `facts.FactHeader`.  value: None when it must be pulled."""

    header: Annotated[bytes, msgspec.Meta(max_length=512)]
    signature: wire.Bytes64
    value: Annotated[bytes, msgspec.Meta(max_length=MAX_FACT_BYTES)] | None


Rumour = MemberRumour | Accusation | FactRumour


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Are you there? Answered by Ack."""

    sequence: Sequence


class PingRequest(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Ask `target` for me (SWIM §4.1). Answered by Ack or Nack."""

    sequence: Sequence
    target: wire.Bytes32


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The node asked for has answered."""

    sequence: Sequence


class Nack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """I tried and heard nothing (Lifeguard). linked: whether I had a connection to try it on."""

    sequence: Sequence
    linked: bool


ProbeWord = Ping | PingRequest | Ack | Nack


class OutlineEntry(msgspec.Struct, frozen=True, array_like=True):
    """Facts by name: how far the sender knows one node's. Who knows less asks in the same way, who knows more tells.

    node: the first bytes of its id.  facts: as in `DigestEntry`."""

    node: Annotated[bytes, msgspec.Meta(min_length=PREFIX_BYTES, max_length=PREFIX_BYTES)]
    boot: wire.Counter
    facts: wire.Counter


class Packet(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What one datagram holds; over a stream it is the reliable ping and the accusation to one's face.

    outline: encoded `OutlineEntry`s, since most are the receiver's own, byte for byte, and need not be read.
    """

    probe: ProbeWord | None
    rumours: Annotated[tuple[RumourBytes, ...], msgspec.Meta(max_length=MAX_RUMOURS_PER_PACKET)]
    outline: Annotated[tuple[OutlineBytes, ...], msgspec.Meta(max_length=MAX_OUTLINE_ENTRIES)] = ()


class DigestEntry(msgspec.Struct, frozen=True, array_like=True):
    """How far the sender's knowledge of one node goes. facts: the version up to which it lacks none."""

    node: wire.Bytes32
    boot: wire.Counter
    incarnation: wire.Counter
    status: Status
    facts: wire.Counter


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Everything the sender knows, in outline. is_request: the receiver's own digest is wanted back."""

    is_request: bool
    entries: Annotated[tuple[DigestEntry, ...], msgspec.Meta(max_length=MAX_MEMBERS + 1)]


class DeltaEntry(msgspec.Struct, frozen=True, array_like=True):
    """What the receiver lacks about one node.

    record: empty when only facts are missing.  accuser: empty unless SUSPECT or DEAD.
    age_s: how long ago the node died or left.  facts: encoded `FactRumour`s, in order of version.
    """

    node: wire.Bytes32
    record: Annotated[bytes, msgspec.Meta(max_length=2048)]
    status: Status
    accuser: Annotated[bytes, msgspec.Meta(max_length=32)]
    age_s: AgeSeconds
    facts: Annotated[tuple[RumourBytes, ...], msgspec.Meta(max_length=MAX_FACTS_PER_NODE)]


class Delta(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """One page of the answer to a digest. has_more: the budget ended first; ask again."""

    entries: Annotated[tuple[DeltaEntry, ...], msgspec.Meta(max_length=MAX_MEMBERS + 1)]
    has_more: bool


ReliableMessage = Packet | Digest | Delta


def encode_packet(probe: ProbeWord | None, rumours: Iterable[bytes], outline: Iterable[bytes] = ()) -> bytes:
    """One datagram's bytes. The caller keeps to `RUMOUR_BUDGET_BYTES`."""
    return wire.encode(Packet(probe, tuple(rumours), tuple(outline)))


def rumour_cost(rumour: bytes) -> int:
    """Bytes that `rumour` takes up in a packet: its length and a MessagePack header."""
    return len(rumour) + 3


NAMING_COST = MAX_OUTLINE_ENTRY_BYTES + 2
"""At most what a fact takes up in a packet that only names it."""

RUMOUR_BUDGET_BYTES = MAX_DATAGRAM_BYTES - PACKET_OVERHEAD_BYTES


def fits_datagram(rumour: bytes) -> bool:
    """Whether `rumour` can travel in a packet at all, rather than by anti-entropy only."""
    return rumour_cost(rumour) <= RUMOUR_BUDGET_BYTES


def decode_packet(data: bytes, peer: NodeId) -> Packet:
    """Read a datagram. Raises ProtocolError."""
    return wire.decode(data, Packet, peer=peer, max_bytes=MAX_DATAGRAM_BYTES, max_items=MAX_RUMOURS_PER_PACKET)


def decode_reliable(data: bytes, peer: NodeId) -> ReliableMessage:
    """Read a message of a `gossip/1` stream. Raises ProtocolError."""
    message: ReliableMessage = wire.decode(
        data, ReliableMessage, peer=peer, max_bytes=MAX_RECORD_BYTES, max_items=MAX_MEMBERS + 1
    )
    return message


def decode_rumour(data: bytes, peer: NodeId) -> Rumour:
    """Read one rumour. Raises ProtocolError."""
    rumour: Rumour = wire.decode(data, Rumour, peer=peer, max_bytes=MAX_RUMOUR_BYTES, max_items=16)
    return rumour


def decode_outline_entry(data: bytes, peer: NodeId) -> OutlineEntry:
    """Read one entry of an outline of facts. Raises ProtocolError."""
    return wire.decode(data, OutlineEntry, peer=peer, max_bytes=MAX_OUTLINE_ENTRY_BYTES, max_items=3)
