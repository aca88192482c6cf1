"""One example of every message of `gossip`, with the keys of tests/transport/examples.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from gossip.facts import Device, FactHeader, GpuFact, Held, SystemFact, fingerprint, seal_fact
from gossip.fence import FenceEntry, FenceFile
from gossip.lease import Claim, encode_claims
from gossip.lease_message import (
    LeaseGranted,
    LeaseRefused,
    LeaseRelease,
    LeaseReleased,
    LeaseRequest,
    Question,
    RefusalCode,
    Reply,
)
from gossip.member import MemberBody, seal_member
from gossip.message import (
    PREFIX_BYTES,
    Accusation,
    Ack,
    Delta,
    DeltaEntry,
    Digest,
    DigestEntry,
    Nack,
    OutlineEntry,
    Ping,
    PingRequest,
    encode_packet,
)
from gossip.view import Status
from tests.golden import Example
from tests.transport.examples import MEMBER, MEMBER_CERTIFICATE, MESH_ID, SECOND
from transport import wire
from transport.identity import node_text

BODY = MemberBody(MEMBER.node, 2, 1, False, "member", (("192.0.2.9", 7842), ("2001:db8::9", 7842)), 1)
RECORD = seal_member(BODY, MEMBER_CERTIFICATE, MEMBER, MESH_ID)
ACCUSATION = wire.encode(Accusation(MEMBER.node, 2, 1, False, SECOND.node))
GIB = 1 << 30
HELD = Held(weights=700 << 20, kv=200 << 20, forms=64 << 20, rest=60 << 20)
GPU = wire.encode(
    GpuFact((Device("NVIDIA RTX 3060", "cuda", 12 * GIB, 11 * GIB, HELD), Device("RAM", "cpu", GIB, GIB)))
)
SYSTEM = wire.encode(SystemFact("0.1.0", "linux x86_64", 0.25, 3600, 8, 32 * GIB, 20 * GIB))
FENCES = wire.encode(
    FenceFile(1, 2, (FenceEntry("host/tiny", 4, MEMBER.node), FenceEntry("host/large", 9, SECOND.node)))
)
CLAIMS = encode_claims([Claim("host/tiny", 4, 12 * GIB, MEMBER.node)])


def header(key: str, value: bytes, version: int) -> FactHeader:
    """Of a fact of the member, which is alone in its table."""
    digest = hashlib.sha256(value).digest()
    return FactHeader(MEMBER.node, 2, key, version, len(value), digest, fingerprint({key: version}))


FACT_HEADER = header("gpu", GPU, 1)
FACT = seal_fact(FACT_HEADER, GPU, MEMBER, MESH_ID).encoded
LARGE = seal_fact(header("models", bytes(600), 7), bytes(600), MEMBER, MESH_ID)


def _rumours() -> Iterator[tuple[str, Example]]:
    yield "member_body", Example("What a member signs of itself", "gossip.member.MemberBody", wire.encode(BODY))
    yield "member_rumour", Example("Its record", "gossip.message.MemberRumour", RECORD)
    yield "accusation", Example("Suspicion of a member", "gossip.message.Accusation", ACCUSATION)
    yield "fact_header", Example("What is signed of a fact", "gossip.facts.FactHeader", wire.encode(FACT_HEADER))
    yield "fact_rumour", Example("A fact and its value", "gossip.message.FactRumour", FACT)
    yield "fact_rumour_large", Example("Its value must be pulled", "gossip.message.FactRumour", LARGE.told)


def _messages() -> Iterator[tuple[str, Example]]:
    words: dict[str, Ping | PingRequest | Ack | Nack] = {
        "ping": Ping(1),
        "ping_request": PingRequest(2, SECOND.node),
        "ack": Ack(1),
        "nack": Nack(2, True),
    }
    for name, word in words.items():
        yield f"packet_{name}", Example("A datagram", "gossip.message.Packet", encode_packet(word, []))
    rumours = [ACCUSATION, RECORD, FACT]
    yield "packet_rumours", Example("A datagram of rumours", "gossip.message.Packet", encode_packet(None, rumours))
    named = wire.encode(OutlineEntry(MEMBER.node[:PREFIX_BYTES], 2, 300))
    yield "outline_entry", Example("A fact by name", "gossip.message.OutlineEntry", named)
    outline = encode_packet(Ack(1), [ACCUSATION], [named])
    yield "packet_outline", Example("A datagram that names facts", "gossip.message.Packet", outline)
    entries = (DigestEntry(MEMBER.node, 2, 1, Status.SUSPECT, 1), DigestEntry(SECOND.node, 9, 0, Status.ALIVE, 0))
    yield "digest", Example("Opens an exchange", "gossip.message.Digest", wire.encode(Digest(True, entries)))
    lacking = (
        DeltaEntry(MEMBER.node, RECORD, Status.DEAD, SECOND.node, 12.5, (FACT,)),
        DeltaEntry(SECOND.node, b"", Status.ALIVE, b"", 0.0, (LARGE.encoded,)),
    )
    yield "delta", Example("A page of an answer", "gossip.message.Delta", wire.encode(Delta(lacking, False)))


def _facts() -> Iterator[tuple[str, Example]]:
    yield "fact_sys", Example("The value of `sys`", "gossip.facts.SystemFact", SYSTEM)
    yield "fact_gpu", Example("The value of `gpu`", "gossip.facts.GpuFact", GPU)
    yield "fact_claims", Example("The value of `claims`", "gossip.lease.ClaimsFact", CLAIMS)


def _leases() -> Iterator[tuple[str, Example]]:
    lease = bytes(range(16))
    words: dict[str, tuple[str, Question | Reply]] = {
        "request": ("Asks for a lease", LeaseRequest("host/tiny", 4, lease, True, "work", 3 * GIB)),
        "renewal": ("Renews a vote", LeaseRequest("host/tiny", 4, lease, False, "vote")),
        "release": ("Lets a lease go", LeaseRelease("host/tiny", lease)),
        "granted": ("Yes", LeaseGranted(10_000)),
        "released": ("It is not held", LeaseReleased()),
        "refused": ("No", LeaseRefused(RefusalCode.STALE_TERM, "this node has served term 7 of this resource", 7)),
        "refused_led": ("Another leads", LeaseRefused(RefusalCode.STALE_TERM, "term 7 was served", 7, is_led=True)),
        "refused_busy": ("Not yet", LeaseRefused(RefusalCode.BUSY, "this node has just started", 0, 8500)),
    }
    for name, (about, word) in words.items():
        path = f"gossip.lease_message.{type(word).__name__}"
        yield f"lease_{name}", Example(about, path, wire.encode(word))


def _kept() -> Iterator[tuple[str, Example]]:
    entry = {"node": node_text(MEMBER.node), "addresses": ["192.0.2.9:7842", "[2001:db8::9]:7842"], "seen_unix": 1.8e9}
    text = json.dumps({"version": 1, "nodes": [entry]}, indent=1)
    yield "address_book", Example("The file of last known addresses", "address_book", text.encode())
    yield "fences", Example("The file of fences, its checksum left out", "gossip.fence.FenceFile", FENCES)


def examples() -> dict[str, Example]:
    """By file name."""
    return {name: example for group in (_rumours, _messages, _facts, _leases, _kept) for name, example in group()}
