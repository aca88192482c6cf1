"""Every way into `gossip` for bytes of others, for the fuzzers.

Those called `…-by-member` sign what they are given, as a member of the mesh that breaks the rules would.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.event import Connected, Received, ReliableReceived, Tick
from gossip.facts import FactHeader, open_fact, read_gpu, read_header, read_system, seal_fact
from gossip.fence import MAX_FILE_BYTES, Fences
from gossip.grant import Asked, Grants
from gossip.lease import Claim, claims
from gossip.lease_message import (
    MAX_MESSAGE_BYTES,
    LeaseRequest,
    lease_text,
    read_lease_text,
    read_question,
    read_reply,
)
from gossip.member import LocalNode, MemberBody, open_member, read_body, seal_member
from gossip.message import (
    MAX_OUTLINE_ENTRY_BYTES,
    MAX_RUMOUR_BYTES,
    PREFIX_BYTES,
    FactRumour,
    MemberRumour,
    OutlineEntry,
    Packet,
    decode_outline_entry,
    decode_packet,
    decode_reliable,
    decode_rumour,
    encode_packet,
)
from gossip.timing import LAN
from gossip.trust import CertificateVerifier, Certified
from gossip.view import NodeView, Status, View
from tests.fuzzing import Decoder, seeds_of
from tests.gossip.identities import MESH_ID, CheapVerifier, cheap_self
from tests.transport import examples
from transport import wire
from transport.interface import MAX_DATAGRAM_BYTES, Address, Peer, Role

ME, ALICE, BOB = (cheap_self(name) for name in ("me", "alice", "bob"))
VERIFIER = CertificateVerifier(examples.ROOT.public, examples.MESH_ID, lambda: examples.NOW)
SENDER = examples.SECOND.node
EXCHANGE_BYTES = 128 << 10


# Words alone


def _rumour(data: bytes) -> None:
    """Read it and believe it, or not."""
    match decode_rumour(data, SENDER):
        case MemberRumour() as rumour:
            open_member(rumour, read_body(rumour, SENDER), VERIFIER, examples.MESH_ID, SENDER)
        case FactRumour() as rumour:
            header = read_header(rumour, SENDER)
            open_fact(rumour, header, examples.MEMBER.public, VERIFIER, examples.MESH_ID, SENDER)


def _node(facts: dict[str, bytes]) -> NodeView:
    places = (Address("192.0.2.9", 7842),)
    return NodeView(ALICE.node, "alice", Role.MEMBER, Status.ALIVE, 1, 0, places, facts, None, True, 60.0)


def _fact(key: str, read: Callable[[NodeView], object]) -> Callable[[bytes], object]:
    return lambda data: read(_node({key: data}))


def _claims(node: NodeView) -> object:
    return claims(View(1, (node,)))


def _address_book(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "addresses"
        path.write_bytes(data)
        book = AddressBook(path, lambda: examples.NOW)
        book.save(book.load(), [])


# Leases


def _lease_question(data: bytes) -> None:
    """Read it and, where it is a request, judge it, from a host that claims what it asks for."""
    question = read_question(data, SENDER)
    if isinstance(question, LeaseRequest):
        claim = Claim(question.resource, question.term, 1, SENDER)
        Grants(Fences(), 0.0).handle(0.0, Asked(SENDER, 1, question, claim))


def _lease_text(data: bytes) -> None:
    if (named := read_lease_text(data.decode("latin-1"))) is not None:
        assert lease_text(*named).encode() == data


def _fences(data: bytes) -> None:
    """A body as it would have been written, with the checksum that makes it believed."""
    fences = Fences.decode(hashlib.sha256(data).digest() + data, "fuzz")
    for resource in fences.resources:
        fences.raise_to(resource, fences.get(resource).term + 1, SENDER)
    fences.encode()


# Into an engine


class _Careful(CheapVerifier):
    """Does not believe what is no cheap certificate at all."""

    def certified(self, certificate: bytes) -> Certified | None:
        is_cheap = certificate[32:] in (b"owner", b"member", b"client")
        return super().certified(certificate) if is_cheap else None


def _engine() -> Engine:
    """Alone but for Alice and Bob, who are members, and connected."""
    engine = Engine(ME, _Careful(), LAN, random.Random(1), 100.0)
    engine.handle(100.0, Tick())
    for other in (ALICE, BOB):
        engine.handle(100.0, Connected(_peer(other)))
        engine.handle(100.0, Received(other.node, _packet(_record(other))))
    return engine


def _peer(other: LocalNode) -> Peer:
    return Peer(other.node, other.role, other.boot, other.name, other.certificate)


def _body(other: LocalNode, incarnation: int = 0) -> MemberBody:
    places = tuple((address.host, address.port) for address in other.addresses)
    return MemberBody(other.node, 1, incarnation, False, other.name, places, 1)


def _record(other: LocalNode) -> bytes:
    return seal_member(_body(other), other.certificate, other.signer, MESH_ID)


def _packet(*rumours: bytes) -> bytes:
    return wire.encode(Packet(None, rumours))


def _and_then(engine: Engine) -> None:
    """What was taken in is told on, compared, shown and forgotten without a complaint."""
    for now in (100.1, 100.5, 101.5, 112.0, 200.0):
        engine.handle(now, Tick())
    view = engine.view(200.0, {})
    assert view.me.status is Status.ALIVE
    read_system(view.me)
    claims(view)


def _datagram(data: bytes) -> None:
    engine = _engine()
    engine.handle(100.0, Received(ALICE.node, data))
    _and_then(engine)


def _outline(data: bytes) -> None:
    """One entry, beside one of somebody who is known."""
    engine = _engine()
    known = wire.encode(OutlineEntry(BOB.node[:PREFIX_BYTES], 1, 7))
    engine.handle(100.0, Received(ALICE.node, encode_packet(None, [], [data, known])))
    _and_then(engine)


def _reliable(data: bytes) -> None:
    engine = _engine()
    engine.handle(100.0, ReliableReceived(_peer(ALICE), data))
    _and_then(engine)


def _body_by_member(data: bytes) -> None:
    signature = ALICE.signer.sign(b"meshd-member-v1" + MESH_ID + data)
    _datagram(_packet(wire.encode(MemberRumour(data, ALICE.certificate, signature))))


def _header_by_member(data: bytes) -> None:
    signature = ALICE.signer.sign(b"meshd-fact-v1" + MESH_ID + data)
    _datagram(_packet(wire.encode(FactRumour(data, signature, b"v"))))


def _fact_header() -> bytes:
    return wire.encode(FactHeader(ALICE.node, 1, "load", 1, 1, hashlib.sha256(b"v").digest(), b"t" * 8))


def _cheap_fact() -> bytes:
    header = FactHeader(ALICE.node, 1, "load", 1, 1, hashlib.sha256(b"v").digest(), b"t" * 8)
    return seal_fact(header, b"v", ALICE.signer, MESH_ID).encoded


_WORDS = seeds_of("gossip", "packet_ping", "packet_ping_request", "packet_ack", "packet_nack")
_PACKETS = seeds_of("gossip", "packet_rumours", "packet_outline", "packet_ping_request", "packet_nack")
_EXCHANGES = seeds_of("gossip", "digest", "delta")
_RUMOURS = seeds_of("gossip", "member_rumour", "accusation", "fact_rumour", "fact_rumour_large")
_CHEAP_PACKETS = (*_WORDS, _packet(_record(BOB), _cheap_fact()), *seeds_of("gossip", "packet_rumours"))

DECODERS = (
    Decoder("packet", lambda data: decode_packet(data, SENDER), _PACKETS, MAX_DATAGRAM_BYTES),
    Decoder(
        "gossip-message",
        lambda data: decode_reliable(data, SENDER),
        (*_PACKETS, *_EXCHANGES),
        EXCHANGE_BYTES,
        peak_bytes=12 << 20,
    ),
    Decoder(
        "outline-entry",
        lambda data: decode_outline_entry(data, SENDER),
        seeds_of("gossip", "outline_entry"),
        MAX_OUTLINE_ENTRY_BYTES,
    ),
    Decoder("outline", _outline, seeds_of("gossip", "outline_entry"), MAX_OUTLINE_ENTRY_BYTES, ()),
    Decoder("rumour", _rumour, _RUMOURS, MAX_RUMOUR_BYTES),
    Decoder("fact-sys", _fact("sys", read_system), seeds_of("gossip", "fact_sys"), 64 << 10, ()),
    Decoder("fact-gpu", _fact("gpu", read_gpu), seeds_of("gossip", "fact_gpu"), 64 << 10, ()),
    Decoder("fact-claims", _fact("claims", _claims), seeds_of("gossip", "fact_claims"), 64 << 10, ()),
    Decoder(
        "lease-question",
        _lease_question,
        seeds_of("gossip", "lease_request", "lease_renewal", "lease_release"),
        MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "lease-reply",
        lambda data: read_reply(data, SENDER),
        seeds_of("gossip", "lease_granted", "lease_released", "lease_refused", "lease_refused_busy"),
        MAX_MESSAGE_BYTES,
    ),
    Decoder("lease-text", _lease_text, (lease_text(bytes(range(16)), 4).encode(),), 128, ()),
    Decoder("fences", _fences, seeds_of("gossip", "fences"), MAX_FILE_BYTES),
    Decoder("address-book", _address_book, seeds_of("gossip", "address_book"), 64 << 10, (), 2 << 20),
    Decoder("engine-datagram", _datagram, _CHEAP_PACKETS, MAX_DATAGRAM_BYTES, ()),
    Decoder("engine-message", _reliable, (*_CHEAP_PACKETS, *_EXCHANGES), EXCHANGE_BYTES, (), peak_bytes=12 << 20),
    Decoder("member-body-by-member", _body_by_member, (wire.encode(_body(ALICE, 3)),), 640, ()),
    Decoder("fact-header-by-member", _header_by_member, (_fact_header(),), 512, ()),
)
