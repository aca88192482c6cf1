"""A member of the mesh that lies: it has a certificate and links like any other, and says whatever the test likes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

import msgspec

from gossip.event import Event, Received, ReliableReceived, Reply
from gossip.member import LocalNode, MemberBody
from gossip.message import (
    MAX_MEMBERS,
    PREFIX_BYTES,
    Accusation,
    Delta,
    DeltaEntry,
    Digest,
    DigestEntry,
    FactRumour,
    MemberRumour,
    OutlineEntry,
    Packet,
    PingRequest,
    decode_rumour,
    encode_packet,
)
from gossip.view import Status
from tests.gossip.cluster import Cluster
from tests.gossip.identities import CheapSigner, cheap_self
from tests.gossip.statements import fact, record
from transport.interface import NodeId
from transport.wire import encode

HUGE = 2**53 - 1


class Rogue:
    """The last node of a cluster. Its own engine goes on being honest beside what is said in its name."""

    def __init__(self, cluster: Cluster, node: NodeId, victims: list[NodeId]) -> None:
        self._cluster = cluster
        self.me = cluster.nodes[node].me
        self.victims = victims
        self.dice = random.Random(f"rogue {cluster.seed}")
        self.replies_bytes = 0

    def attack(self, kind: Attack, every_s: float, for_s: float) -> None:
        """Say the next thing of `kind` to every victim, again and again."""
        sayings, until = kind(self), self._cluster.now + for_s

        def speak() -> None:
            event = next(sayings)
            for victim in self.victims:
                effects = self._cluster.tell(victim, event)
                self.replies_bytes += sum(len(effect.payload) for effect in effects if isinstance(effect, Reply))
            if self._cluster.now < until:
                self._cluster.later(every_s, speak)

        speak()

    def datagram(self, *rumours: bytes) -> Event:
        return Received(self.me.node, encode_packet(None, list(rumours)))

    def reliably(self, message: Packet | Digest | Delta) -> Event:
        return ReliableReceived(self._cluster.nodes[self.me.node].as_peer(), encode(message))

    def of(self, victim: NodeId) -> tuple[LocalNode, int]:
        """A victim, and the incarnation that it is in."""
        return self._cluster.nodes[victim].me, self._cluster.view(victim).me.incarnation

    def posing_as(self, other: LocalNode) -> LocalNode:
        """`other`, but for its key, which this node does not have."""
        return dataclasses.replace(other, signer=CheapSigner(self.me.public))


Attack = Callable[[Rogue], Iterator[Event]]


def forged_facts(rogue: Rogue) -> Iterator[Event]:
    for version in range(2, HUGE):
        other, _ = rogue.of(rogue.dice.choice(rogue.victims))
        whole = fact(rogue.posing_as(other), "load", b"lies %d" % version, version)
        tampered = fact(other, "load", b"%06d" % (version % 10**6), version)[:-1] + b"#"
        yield rogue.datagram(whole, tampered)


def altered_records(rogue: Rogue) -> Iterator[Event]:
    """Someone else's true record, passed on as another life, another place, or a farewell."""
    for incarnation in range(1, HUGE):
        other, _ = rogue.of(rogue.dice.choice(rogue.victims))
        true = decode_rumour(record(other), other.node)
        assert isinstance(true, MemberRumour)
        places = (("192.0.2.66", 7842),)
        body = MemberBody(other.node, 1, incarnation, incarnation % 2 == 0, other.name, places, 1)
        yield rogue.datagram(encode(msgspec.structs.replace(true, body=encode(body))))


def replays(rogue: Rogue) -> Iterator[Event]:
    """All that is true and old, over and over: records of the first incarnation, facts of the first version."""
    while True:
        others = [rogue.of(victim)[0] for victim in rogue.victims]
        yield rogue.datagram(*[record(other) for other in others[:3]])
        yield rogue.datagram(*[fact(other, "sys", other.name.encode()) for other in others[:3]])


def huge_incarnations(rogue: Rogue) -> Iterator[Event]:
    """About others, and its own at the end of the numbers, where it can go no further."""
    while True:
        other, _ = rogue.of(rogue.dice.choice(rogue.victims))
        accused = [
            encode(Accusation(other.node, boot, incarnation, dead, rogue.me.node))
            for boot, incarnation in ((1, HUGE), (HUGE, 0), (HUGE, HUGE))
            for dead in (False, True)
        ]
        yield rogue.datagram(*accused)
        yield rogue.datagram(record(rogue.me, 1, HUGE))


def accusations(rogue: Rogue) -> Iterator[Event]:
    """Everyone of everything, in everybody's name, dead at once."""
    while True:
        said = []
        for victim in rogue.victims:
            other, incarnation = rogue.of(victim)
            accuser = rogue.dice.choice([one for one in (*rogue.victims, rogue.me.node) if one != victim])
            said += [encode(Accusation(other.node, 1, incarnation, dead, accuser)) for dead in (False, True)]
        yield rogue.datagram(*said[:8])
        yield rogue.datagram(*said[8:])


def invented_members(rogue: Rogue) -> Iterator[Event]:
    """Certificates that nobody signed."""
    for number in range(HUGE):
        invented = [dataclasses.replace(cheap_self(f"{number}-{index}"), certificate=b"\0") for index in range(20)]
        entries = [DeltaEntry(one.node, record(one), Status.ALIVE, b"", 0.0, ()) for one in invented]
        yield rogue.reliably(Delta(tuple(entries), True))


def own_records(rogue: Rogue) -> Iterator[Event]:
    """True ones, each with the next incarnation: all are news."""
    for incarnation in range(1, HUGE):
        yield rogue.datagram(record(rogue.me, 1, incarnation))


def own_large_facts(rogue: Rogue) -> Iterator[Event]:
    """Each with a value that has to be pulled, and never is there."""
    for version in range(1000, HUGE):
        whole = decode_rumour(fact(rogue.me, "huge", bytes(60_000), version), rogue.me.node)
        assert isinstance(whole, FactRumour)
        yield rogue.datagram(encode(FactRumour(whole.header, whole.signature, None)))


def wrong_sizes(rogue: Rogue) -> Iterator[Event]:
    """Its own facts, whose values are not what their headers promise."""
    for version in range(1000, HUGE):
        whole = decode_rumour(fact(rogue.me, "size", b"four", version), rogue.me.node)
        assert isinstance(whole, FactRumour)
        values = (b"", b"fore", b"longer", bytes(100))
        yield rogue.datagram(*[encode(FactRumour(whole.header, whole.signature, value)) for value in values])


def giant_digests(rogue: Rogue) -> Iterator[Event]:
    """As large as may be, of nobody; every other one is larger."""
    nobody = [DigestEntry(rogue.dice.randbytes(32), 1, 0, Status.ALIVE, 0) for _ in range(MAX_MEMBERS + 2)]
    while True:
        yield rogue.reliably(Digest(True, tuple(nobody[: MAX_MEMBERS + 1])))
        yield rogue.reliably(Digest(True, tuple(nobody)))


def outlines(rogue: Rogue) -> Iterator[Event]:
    """Of everyone's facts: more than anyone has, and then nothing, which asks for all of them."""
    while True:
        for facts in (HUGE, 0):
            entries = [OutlineEntry(victim[:PREFIX_BYTES], 1, facts) for victim in rogue.victims]
            yield Received(rogue.me.node, encode_packet(None, [], map(encode, entries)))


def errands(rogue: Rogue) -> Iterator[Event]:
    """Ask about others without end."""
    for sequence in range(HUGE):
        packet = encode_packet(PingRequest(sequence, rogue.dice.choice(rogue.victims)), [])
        yield Received(rogue.me.node, packet)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        forged_facts,
        altered_records,
        replays,
        huge_incarnations,
        accusations,
        invented_members,
        own_records,
        own_large_facts,
        wrong_sizes,
        giant_digests,
        outlines,
        errands,
    )
}


def padded(encoded: bytes) -> bytes:
    """A true record with something more at its end, which its signature does not cover."""
    rumour = decode_rumour(encoded, NodeId(b"p" * 32))
    assert isinstance(rumour, MemberRumour)
    return msgspec.msgpack.encode([1, rumour.body, rumour.certificate, rumour.signature, bytes(900)])
