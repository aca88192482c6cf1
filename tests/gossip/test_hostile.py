"""A member that lies as much as it can: it is refused and counted, it costs little, and the others go on as before."""

from __future__ import annotations

import dataclasses
import random
import tracemalloc

import pytest

from gossip.broadcast import MAX_RUMOURS
from gossip.engine import Engine
from gossip.event import Connected, Effect, LocalUpdate, Received, ReliableReceived, SendReliable, Tick
from gossip.knowledge import MAX_SEEN
from gossip.message import (
    MAX_FACTS_PER_NODE,
    MAX_MEMBERS,
    Delta,
    DeltaEntry,
    FactRumour,
    Packet,
    decode_rumour,
    encode_packet,
)
from gossip.patience import DEAF_S
from gossip.timing import LAN
from gossip.view import Status
from tests.gossip.cluster import Cluster
from tests.gossip.identities import CheapVerifier, cheap_self
from tests.gossip.rogue import ATTACKS, Rogue, padded
from tests.gossip.statements import fact, record
from transport.interface import MAX_DATAGRAM_BYTES, NodeId, Peer, Role
from transport.wire import encode

MEMBERS = 7
EVERY_S = 0.02
"""Fifty lies a second to each victim."""

COUNTED_AS = {
    "forged_facts": "refused",
    "altered_records": "refused",
    "huge_incarnations": "unproven",
    "invented_members": "refused",
    "own_records": "told_last",
    "wrong_sizes": "refused",
    "giant_digests": "asked_too_often",
    "outlines": "asked_too_often",
}


class Siege:
    """A mesh of seven whose last member lies in one way, to all the others, for as long as the test takes."""

    def __init__(self, kind: str, seed: int = 5) -> None:
        self.cluster = Cluster(seed)
        self.nodes = self.cluster.mesh(MEMBERS)
        self.cluster.run_until(lambda: self.cluster.is_converged(self.nodes), 20.0)
        self.honest = self.nodes[:-1]
        self.rogue = Rogue(self.cluster, self.nodes[-1], self.honest)
        if kind in ATTACKS:
            self.rogue.attack(ATTACKS[kind], EVERY_S, 60.0)
        self.false_deaths = 0

    def run(self, seconds: float) -> None:
        """Let time pass, and count who is called dead by whom meanwhile."""
        for _ in range(int(seconds / 0.25)):
            self.cluster.run(0.25)
            self.false_deaths += sum(
                self.cluster.status(one, other) is Status.DEAD for one in self.honest for other in self.honest
            )

    def engine(self, node: NodeId) -> Engine:
        return self.cluster.nodes[node].engine

    def fact_s(self) -> float:
        """How long a fact of one honest member takes to reach the others."""
        owner, value = self.honest[1], b"at %f" % self.cluster.now
        self.cluster.tell(owner, LocalUpdate("news", value, is_urgent=True))
        return self.cluster.run_until(
            lambda: all(self.cluster.seen(one, owner).facts.get("news") == value for one in self.honest), 20.0
        )

    def death_s(self) -> float:
        """How long the death of one honest member takes to be known to the others."""
        gone, rest = self.honest[2], [one for one in self.honest if one != self.honest[2]]
        self.cluster.kill(gone)
        self.rogue.victims = rest
        return self.cluster.run_until(lambda: self.cluster.all_see(rest, gone, Status.DEAD), 20.0)


@pytest.mark.parametrize("kind", ["none", *ATTACKS])
def test_whatever_one_member_says_the_others_live_and_hear_each_other_in_time(kind: str) -> None:
    siege = Siege(kind)
    siege.run(6.0)
    assert max(siege.fact_s() for _ in range(4)) <= 1.0
    assert siege.false_deaths == 0
    assert siege.death_s() <= 9.0
    counter = COUNTED_AS.get(kind)
    if counter is not None:
        assert all(siege.engine(one).counters[counter] > 50 for one in siege.honest[:2]), counter


@pytest.mark.parametrize("kind", ATTACKS)
def test_whatever_one_member_says_memory_and_traffic_stay_bounded(kind: str) -> None:
    quiet, siege = Siege("none"), Siege(kind)
    for one in (quiet, siege):
        one.run(10.0)
    for node in siege.honest:
        knowledge = siege.engine(node)._knowledge
        assert len(knowledge.roster.members()) == MEMBERS
        assert len(knowledge._seen) <= MAX_SEEN
        assert len(knowledge.rumours) <= 3 * MAX_RUMOURS
    assert siege.rogue.replies_bytes < 200_000 * len(siege.honest)
    spent, before = (
        sum(one.cluster.nodes[node].bytes_sent for node in one.honest) / len(one.honest) for one in (siege, quiet)
    )
    assert spent - before < 10.0 * 40_000


# -- one engine, and what it costs it


class Target:
    """One engine that is linked to a lying member."""

    def __init__(self, verifier: CheapVerifier | None = None) -> None:
        self.rogue = cheap_self("rogue")
        self.now = 100.0
        self.engine = Engine(cheap_self("me"), verifier or CheapVerifier(), LAN, random.Random(1), self.now)
        self.peer = Peer(self.rogue.node, Role.MEMBER, 1, "rogue", self.rogue.certificate)
        self.engine.handle(self.now, Connected(self.peer))
        self.hear(record(self.rogue))

    def hear(self, *rumours: bytes, after_s: float = 0.0) -> None:
        self.now += after_s
        self.engine.handle(self.now, Received(self.rogue.node, encode_packet(None, list(rumours))))

    def hear_reliably(self, message: Packet | Delta, after_s: float = 0.0) -> list[Effect]:
        self.now += after_s
        return self.engine.handle(self.now, ReliableReceived(self.peer, encode(message)))


def test_ten_thousand_members_are_enrolled_up_to_the_bound_and_the_rest_are_counted() -> None:
    everyone = [cheap_self(f"member{number}") for number in range(10_000)]
    records = [record(one) for one in everyone]
    verifier = CheapVerifier()
    for one in everyone:
        verifier.certified(one.certificate)
    target = Target(verifier)
    tracemalloc.start()
    for start in range(0, len(records), 3):
        target.hear(*records[start : start + 3], after_s=0.001)
    cost, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(target.engine.view(target.now, {}).nodes) == MAX_MEMBERS
    assert target.engine.counters["too_many_members"] == 10_000 - (MAX_MEMBERS - 2)
    assert cost < 16 << 20


def test_ten_thousand_records_without_a_certificate_are_not_even_looked_at_after_the_first_few_hundred() -> None:
    target = Target()
    for number in range(100):
        strangers = [dataclasses.replace(cheap_self(f"{number}-{one}"), certificate=b"\0") for one in range(100)]
        entries = [DeltaEntry(one.node, record(one), Status.ALIVE, b"", 0.0, ()) for one in strangers]
        target.hear_reliably(Delta(tuple(entries), True), after_s=0.01)
    assert len(target.engine.view(target.now, {}).nodes) == 2
    counters = target.engine.counters
    assert 256 <= counters["refused"] <= 300
    assert counters["refused"] + counters["unheard"] == 10_000


def test_who_was_not_listened_to_is_heard_again_later() -> None:
    target = Target()
    for number in range(300):
        target.hear(b"nonsense %d" % number)
    target.hear(record(target.rogue, incarnation=1))
    rogue = target.engine.view(target.now, {}).get(target.rogue.node)
    assert rogue is not None and rogue.incarnation == 0
    target.hear(record(target.rogue, incarnation=1), after_s=DEAF_S)
    rogue = target.engine.view(target.now, {}).get(target.rogue.node)
    assert rogue is not None and rogue.incarnation == 1


def test_a_thousand_large_facts_of_one_member_cost_four_mebibytes() -> None:
    target = Target()
    tracemalloc.start()
    for version in range(1, 1001):
        large = fact(target.rogue, f"key{version % 100}", bytes(60_000), version)
        target.hear_reliably(Packet(None, (large,)), after_s=0.01)
    cost, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    shown = target.engine.view(target.now, {}).nodes[1].facts
    assert len(shown) == MAX_FACTS_PER_NODE
    assert target.engine.counters["refused"] >= 256
    assert cost < 5 << 20


def test_what_a_relay_adds_to_a_record_goes_no_further() -> None:
    target = Target()
    alice = cheap_self("alice")
    target.hear(padded(record(alice)))
    member = target.engine._knowledge.roster.get(alice.node)
    assert member is not None
    assert member.record.encoded == record(alice)


def test_a_header_that_its_owner_did_not_sign_makes_nobody_pull() -> None:
    target = Target()
    alice = cheap_self("alice")
    target.hear(record(alice))
    whole = decode_rumour(fact(dataclasses.replace(alice, signer=target.rogue.signer), value=bytes(5000)), alice.node)
    assert isinstance(whole, FactRumour)
    before = target.engine.counters["refused"]
    target.hear(encode(FactRumour(whole.header, whole.signature, None)))
    assert target.engine.counters["refused"] == before + 1
    assert not target.engine._knowledge.wanted
    effects = target.engine.handle(target.now + 1.0, Tick())
    digests = [one for one in effects if isinstance(one, SendReliable) and one.payload[1:2] == b"\x02"]
    assert len(digests) <= 1  # of its own anti-entropy


def test_pulls_from_one_that_always_has_more_are_few() -> None:
    target = Target()
    asked = 0
    for version in range(1, 2001):
        whole = decode_rumour(fact(target.rogue, "huge", bytes(60_000), version), target.rogue.node)
        assert isinstance(whole, FactRumour)
        target.hear(encode(FactRumour(whole.header, whole.signature, None)), after_s=0.03)
        effects = target.hear_reliably(Delta((), True), after_s=0.0)
        effects += target.engine.handle(target.now, Tick())
        asked += sum(isinstance(one, SendReliable) for one in effects)
    assert asked <= 8 + 60 + 7  # a minute: the burst, one a second at most, and its own anti-entropy


def test_a_rumour_larger_than_a_packet_is_not_remembered_whole() -> None:
    target = Target()
    for version in range(1, 200):
        large = fact(target.rogue, "huge", bytes(60_000), version)
        target.hear_reliably(Packet(None, (large,)))
    assert max(map(len, target.engine._knowledge._seen), default=0) <= MAX_DATAGRAM_BYTES
