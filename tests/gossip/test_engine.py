"""One engine, called by hand: what it answers, refuses, and does when time passes."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.asking import OUTLINES
from gossip.broadcast import WHOLE_TELLINGS, transmissions
from gossip.engine import MORE_SYNCS, MUCH_NEWS, Engine
from gossip.event import (
    Connected,
    Disconnected,
    Doubt,
    Drop,
    Effect,
    Event,
    Hint,
    Keep,
    Leave,
    LocalUpdate,
    Moved,
    Notify,
    Persist,
    RaiseBoot,
    Received,
    ReliableReceived,
    Reply,
    Seed,
    SendDatagram,
    SendReliable,
    Tick,
)
from gossip.facts import FactHeader, fingerprint, seal_fact
from gossip.member import LocalNode
from gossip.message import (
    PREFIX_BYTES,
    Accusation,
    Ack,
    Delta,
    DeltaEntry,
    Digest,
    DigestEntry,
    FactRumour,
    Nack,
    OutlineEntry,
    Packet,
    Ping,
    PingRequest,
    ProbeWord,
    decode_packet,
    decode_reliable,
    decode_rumour,
    encode_packet,
)
from gossip.timing import GOSSIP_FANOUT, LAN
from gossip.view import Status
from tests.gossip.identities import MESH_ID, CheapVerifier, RealMesh, cheap_self
from tests.gossip.statements import accuse, fact, record
from transport.interface import MAX_DATAGRAM_BYTES, Address, NodeId, Peer, Role
from transport.wire import encode

E = TypeVar("E")


class Bench:
    """An engine named "me", and others whose words the test puts in their mouths."""

    def __init__(self, *others: str, role: Role = Role.MEMBER) -> None:
        self.me = cheap_self("me", role)
        self.now = 100.0
        self.engine = Engine(self.me, CheapVerifier(), LAN, random.Random(1), self.now)
        self.tell(Tick())
        for other in others:
            self.introduce(cheap_self(other))

    def tell(self, event: Event, after_s: float = 0.0) -> list[Effect]:
        self.now += after_s
        effects = self.engine.handle(self.now, event)
        assert all(len(one.payload) <= MAX_DATAGRAM_BYTES for one in effects if isinstance(one, SendDatagram))
        return effects

    def introduce(self, other: LocalNode) -> None:
        """Connect a member and let it say who it is."""
        self.tell(Connected(as_peer(other)))
        self.hear(other, record(other))

    def hear(self, sender: LocalNode, *rumours: bytes, word: ProbeWord | None = None) -> list[Effect]:
        return self.tell(Received(sender.node, encode_packet(word, list(rumours))))

    def hear_reliably(self, sender: LocalNode, message: Packet | Digest | Delta) -> list[Effect]:
        return self.tell(ReliableReceived(as_peer(sender), encode(message)))

    def run(self, seconds: float) -> list[Effect]:
        """Tick whenever the engine wants to."""
        effects: list[Effect] = []
        end = self.now + seconds
        while self.engine.next_deadline <= end:
            self.now = max(self.now, self.engine.next_deadline)
            effects.extend(self.engine.handle(self.now, Tick()))
        self.now = end
        return effects

    def run_answered(self, seconds: float, *others: LocalNode) -> list[Effect]:
        """As `run`, while these others answer every ping, and have nothing to tell whenever notes are compared."""
        effects: list[Effect] = []
        by_node = {other.node: other for other in others}
        for _ in range(int(seconds / 0.1)):
            sent = self.run(0.1)
            for peer, word in words(sent):
                if isinstance(word, Ping) and peer in by_node:
                    sent += self.hear(by_node[peer], word=Ack(word.sequence))
            for one in digests(sent):
                if one.peer in by_node:
                    sent += self.hear_reliably(by_node[one.peer], Delta((), False))
            effects += sent
        return effects

    def bury(self, other: LocalNode) -> list[Effect]:
        """Let everyone say that `other` is dead, until this node's own clock on it has run out."""
        effects = self.hear(BOB, accuse(other, BOB, dead=True))
        return [*effects, *self.run_answered(3.2, *[one for one in (ALICE, BOB, CAROL, DAVE) if one is not other])]

    def status(self, other: LocalNode) -> Status | None:
        entry = self.engine.view(self.now, {}).get(other.node)
        return entry.status if entry is not None else None


def as_peer(other: LocalNode) -> Peer:
    return Peer(other.node, other.role, other.boot, other.name, other.certificate)


def of(kind: type[E], effects: list[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def words(effects: list[Effect]) -> list[tuple[NodeId, ProbeWord]]:
    packets = [(effect.peer, decode_packet(effect.payload, effect.peer)) for effect in of(SendDatagram, effects)]
    return [(peer, packet.probe) for peer, packet in packets if packet.probe is not None]


def digests(effects: list[Effect]) -> list[SendReliable]:
    return [one for one in of(SendReliable, effects) if isinstance(decode_reliable(one.payload, one.peer), Digest)]


def replies(effects: list[Effect]) -> list[Packet | Digest | Delta]:
    return [decode_reliable(effect.payload, NodeId(b"")) for effect in of(Reply, effects)]


ALICE, BOB, CAROL, DAVE = (cheap_self(name) for name in ("alice", "bob", "carol", "dave"))
LAPTOP = cheap_self("laptop", Role.CLIENT)


# -- probing


def test_a_ping_is_answered_at_once() -> None:
    bench = Bench("alice")
    assert words(bench.hear(ALICE, word=Ping(7))) == [(ALICE.node, Ack(7))]


def test_a_request_to_ask_another_is_run_and_reported() -> None:
    bench = Bench("alice", "bob")
    ((asked, ping),) = words(bench.hear(ALICE, word=PingRequest(7, BOB.node)))
    assert asked == BOB.node
    assert isinstance(ping, Ping)
    assert words(bench.hear(BOB, word=Ack(ping.sequence))) == [(ALICE.node, Ack(7))]


def test_a_request_about_one_without_a_link_is_denied_as_such() -> None:
    bench = Bench("alice")
    assert words(bench.hear(ALICE, word=PingRequest(7, BOB.node))) == [(ALICE.node, Nack(7, False))]


def test_an_errand_without_an_answer_is_denied_before_the_asker_gives_up() -> None:
    bench = Bench("alice", "bob")
    bench.hear(ALICE, word=PingRequest(7, BOB.node))
    assert (ALICE.node, Nack(7, True)) in words(bench.run(0.45))


def test_silence_is_asked_around_then_pinged_reliably_then_accused_to_its_face() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    begun = bench.tell(Hint(ALICE.node, "a call failed"))
    ((target, ping),) = words(begun)
    assert (target, isinstance(ping, Ping)) == (ALICE.node, True)
    later = bench.run(0.55)
    asked = [peer for peer, word in words(later) if word == PingRequest(ping.sequence, ALICE.node)]
    assert sorted(asked) == sorted([BOB.node, CAROL.node, DAVE.node])
    reliable = [decode_reliable(one.payload, one.peer) for one in of(SendReliable, later) if one.peer == ALICE.node]
    assert Packet(Ping(ping.sequence), ()) in reliable
    assert bench.status(ALICE) is Status.ALIVE
    end = bench.run(0.5)
    assert bench.status(ALICE) is Status.SUSPECT
    expected = encode_packet(None, [accuse(ALICE, bench.me)])
    assert SendReliable(ALICE.node, expected) in end
    assert SendDatagram(ALICE.node, expected) in end


@pytest.mark.parametrize("answerer", [ALICE, BOB])
def test_an_answer_direct_or_through_a_helper_saves_the_target(answerer: LocalNode) -> None:
    bench = Bench("alice", "bob", "carol")
    ((_, ping),) = words(bench.tell(Hint(ALICE.node, "a call failed")))
    bench.run(0.55)
    bench.hear(answerer, word=Ack(ping.sequence))
    bench.run(0.6)
    assert bench.status(ALICE) is Status.ALIVE


def test_a_reliable_answer_saves_the_target_too() -> None:
    bench = Bench("alice", "bob")
    ((_, ping),) = words(bench.tell(Hint(ALICE.node, "a call failed")))
    bench.run(0.55)
    bench.hear_reliably(ALICE, Packet(Ack(ping.sequence), ()))
    bench.run(0.6)
    assert bench.status(ALICE) is Status.ALIVE


def test_a_reliable_ping_is_answered_on_its_stream() -> None:
    bench = Bench("alice")
    assert replies(bench.hear_reliably(ALICE, Packet(Ping(9), ()))) == [Packet(Ack(9), ())]


def test_one_never_linked_is_not_accused_without_a_helper_that_tried() -> None:
    bench = Bench("bob", "carol")
    bench.hear(BOB, record(ALICE))
    bench.tell(Hint(ALICE.node, "no route"))
    bench.run(1.1)
    assert bench.status(ALICE) is Status.ALIVE


def test_one_never_linked_is_accused_when_a_linked_helper_tried_in_vain() -> None:
    bench = Bench("bob", "carol")
    bench.hear(BOB, record(ALICE))
    asked = words(bench.tell(Hint(ALICE.node, "no route")))
    (sequence,) = {word.sequence for _, word in asked if isinstance(word, PingRequest)}
    bench.hear(BOB, word=Nack(sequence, True))
    bench.hear(CAROL, word=Nack(sequence, True))
    bench.run(1.1)
    assert bench.status(ALICE) is Status.SUSPECT


def test_losing_a_connection_starts_a_probe_at_once() -> None:
    bench = Bench("alice", "bob")
    effects = bench.tell(Disconnected(ALICE.node, "closed with an error", False))
    assert [peer for peer, word in words(effects) if isinstance(word, PingRequest)] == [BOB.node]
    assert Notify() in effects
    assert bench.status(ALICE) is Status.ALIVE


def test_what_was_asked_of_an_earlier_start_is_not_held_against_the_next() -> None:
    bench = Bench("b", "c")
    b = cheap_self("b")
    bench.tell(Disconnected(b.node, "broken", False))  # begins a probe
    again = dataclasses.replace(b, boot=2)
    bench.tell(Connected(as_peer(again)), after_s=LAN.probe_s * 0.9)
    bench.hear(again, record(again, boot=2))
    effects = bench.run(LAN.probe_s * 0.2)
    assert bench.status(b) is Status.ALIVE
    assert not [one for one in of(SendReliable, effects) if one.peer == b.node]


def test_a_hint_shortens_the_suspicion() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    bench.tell(Hint(ALICE.node, "a call failed"))
    bench.run(1.1)
    # One further voice is needed in a mesh of five, and the failed call was it.
    bench.run(3.1)
    assert bench.status(ALICE) is Status.DEAD


def test_a_suspicion_that_is_heard_of_is_looked_into_within_a_round() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    bench.hear(BOB, accuse(ALICE, BOB))
    asked = [peer for peer, word in words(bench.run(1.0)) if isinstance(word, Ping)]
    assert ALICE.node in asked
    bench.run_answered(1.5, BOB, CAROL, DAVE)
    # With its own voice the shortest wait of 3 s has begun when the suspicion did; by chance alone it would be 18 s.
    bench.run_answered(1.5, BOB, CAROL, DAVE)
    assert bench.status(ALICE) is Status.DEAD


def test_a_dead_peer_whose_link_looks_open_is_doubted() -> None:
    bench = Bench("alice", "bob")
    effects = bench.bury(ALICE)
    assert bench.status(ALICE) is Status.DEAD
    assert [one.node for one in of(Doubt, effects)] == [ALICE.node]


def test_a_suspect_is_told_so_with_every_packet() -> None:
    bench = Bench("alice", "bob", "carol")
    said = accuse(ALICE, BOB)
    bench.hear(BOB, said)
    effects = bench.hear(ALICE, word=Ping(3))
    (payload,) = [one.payload for one in of(SendDatagram, effects) if one.peer == ALICE.node]
    assert decode_packet(payload, ALICE.node).rumours[0] == said


# -- self


def test_accused_of_silence_it_refutes_and_feels_worse() -> None:
    bench = Bench("alice", "bob")
    bench.hear(ALICE, accuse(bench.me, ALICE))
    assert bench.engine.view(bench.now, {}).me.incarnation == 1
    assert bench.engine.health == 1


def test_accused_to_its_face_it_answers_on_the_same_stream() -> None:
    bench = Bench("alice")
    (answer,) = replies(bench.hear_reliably(ALICE, Packet(None, (accuse(bench.me, ALICE),))))
    assert isinstance(answer, Packet)
    assert answer.rumours == (record(bench.me, incarnation=1),)


def test_a_later_life_of_its_own_raises_its_boot_and_signs_its_facts_anew() -> None:
    bench = Bench("alice")
    bench.tell(LocalUpdate("load", b"1"))
    effects = bench.hear(ALICE, record(bench.me, boot=9))
    assert of(RaiseBoot, effects) == [RaiseBoot(10)]
    me = bench.engine.view(bench.now, {}).me
    assert (me.boot, dict(me.facts)) == (10, {"load": b"1"})


def test_a_fact_of_its_own_that_it_never_said_is_of_an_earlier_life_whose_disk_was_lost() -> None:
    bench = Bench("alice")
    bench.tell(LocalUpdate("load", b"new"))
    bench.hear(ALICE, fact(bench.me, "load", b"new", version=1))
    assert bench.engine.view(bench.now, {}).me.boot == 1
    entry = DeltaEntry(bench.me.node, b"", Status.ALIVE, b"", 0.0, (fact(bench.me, "claims", b"old", version=7),))
    effects = bench.hear_reliably(ALICE, Delta((entry,), False))
    assert of(RaiseBoot, effects) == [RaiseBoot(2)]
    me = bench.engine.view(bench.now, {}).me
    assert (me.boot, dict(me.facts)) == (2, {"load": b"new"})


def test_a_fact_of_its_own_that_it_did_not_sign_changes_nothing() -> None:
    bench = Bench("alice")
    forged = fact(dataclasses.replace(bench.me, signer=ALICE.signer), "claims", b"old", version=7)
    bench.hear(ALICE, forged)
    assert bench.engine.view(bench.now, {}).me.boot == 1
    assert bench.engine.counters["refused"] == 1


def test_a_pause_of_the_process_blames_nobody() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    bench.hear(BOB, accuse(ALICE, BOB))
    bench.tell(Tick(), after_s=60.0)
    assert bench.engine.health == 8
    assert bench.status(ALICE) is Status.SUSPECT
    bench.run(4.0)
    assert [bench.status(one) for one in (BOB, CAROL, DAVE)] == [Status.ALIVE] * 3


def test_it_is_ticked_often_enough_to_notice_a_pause() -> None:
    for bench in (Bench(), Bench("alice"), Bench("alice", role=Role.CLIENT)):
        for _ in range(200):
            assert bench.engine.next_deadline <= bench.now + 1.0
            bench.tell(Tick(), after_s=max(0.0, bench.engine.next_deadline - bench.now))


def test_leaving_tells_everyone_once_and_a_few_for_certain() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    bench.tell(Connected(as_peer(LAPTOP)))
    effects = bench.tell(Leave())
    everyone = sorted(other.node for other in (ALICE, BOB, CAROL, DAVE))
    assert sorted(one.peer for one in of(SendDatagram, effects)) == everyone
    assert len(of(SendReliable, effects)) == 3
    assert bench.engine.view(bench.now, {}).me.status is Status.LEFT
    assert of(SendDatagram, bench.run(5.0)) == []


def test_moving_tells_the_mesh_in_a_new_incarnation() -> None:
    bench = Bench("alice")
    bench.tell(Moved((Address("10.9.9.9", 1),)))
    me = bench.engine.view(bench.now, {}).me
    assert (me.incarnation, me.addresses) == (1, (Address("10.9.9.9", 1),))


def test_often_changed_facts_are_merged_and_the_last_value_is_said() -> None:
    bench = Bench(*(f"other{index}" for index in range(9)))
    for index in range(10):
        bench.tell(LocalUpdate("load", b"%d" % index), after_s=0.1)
    assert dict(bench.engine.view(bench.now, {}).me.facts) == {"load": b"0"}
    bench.tell(LocalUpdate("claims", b"now", is_urgent=True))
    bench.tell(LocalUpdate("claims", b"at once", is_urgent=True))
    assert bench.engine.view(bench.now, {}).me.facts["claims"] == b"at once"
    bench.run(3.0)
    assert bench.engine.view(bench.now, {}).me.facts["load"] == b"9"


def test_a_quiet_change_is_told_to_those_that_compare_notes_and_to_nobody_else() -> None:
    bench = Bench("alice")
    bench.tell(LocalUpdate("load", b"much"))
    bench.run(10.0)
    effects = bench.tell(LocalUpdate("load", b"a little more", is_quiet=True), after_s=5.0)
    effects += bench.run(5.0)
    assert not any(b"a little more" in one.payload for one in of(SendDatagram, effects))
    answers = replies(bench.hear_reliably(ALICE, Digest(True, ())))
    assert any(isinstance(answer, Delta) and b"a little more" in encode(answer) for answer in answers)


def test_every_ten_seconds_notes_are_compared_with_one_that_lives_and_one_that_is_dead() -> None:
    bench = Bench("alice", "bob", "carol")
    for other in (ALICE, BOB, CAROL):
        bench.hear_reliably(other, Delta((), False))
    bench.bury(ALICE)
    effects = bench.run_answered(40.0, BOB, CAROL)
    asked = [one.peer for one in digests(effects)]
    assert 4 <= asked.count(ALICE.node) <= 5
    assert 4 <= asked.count(BOB.node) + asked.count(CAROL.node) <= 5


def test_notes_that_changed_much_are_compared_again_soon_and_not_for_ever() -> None:
    bench = Bench("alice", "bob")
    bench.run_answered(2.0, ALICE, BOB)
    strangers = [cheap_self(f"stranger{number}") for number in range(MUCH_NEWS)]
    told = tuple(DeltaEntry(one.node, record(one), Status.ALIVE, b"", 0.0, ()) for one in strangers)
    bench.hear_reliably(ALICE, Delta(told[:-1], False))
    assert len(digests(bench.run_answered(5.0, ALICE, BOB))) <= 1
    bench = Bench("alice", "bob")
    bench.run_answered(2.0, ALICE, BOB)
    bench.hear_reliably(ALICE, Delta(told, False))
    assert len(digests(bench.run_answered(5.0, ALICE, BOB))) >= MORE_SYNCS
    assert len(digests(bench.run_answered(20.0, ALICE, BOB))) <= 3


def test_what_others_show_that_they_know_is_told_no_more() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    bench.run_answered(20.0, ALICE, BOB, CAROL, DAVE)
    stranger = cheap_self("stranger")

    def tellings(*knowers: LocalNode, incarnation: int) -> int:
        news = record(stranger, incarnation=incarnation)
        effects = bench.hear(ALICE, news)
        outline = Digest(False, (DigestEntry(stranger.node, 1, incarnation, Status.ALIVE, 0),))
        for one in knowers:
            effects += bench.hear_reliably(one, outline)
        effects += bench.run_answered(5.0, ALICE, BOB, CAROL, DAVE)
        packets = [decode_packet(one.payload, one.peer) for one in of(SendDatagram, effects)]
        return sum(news in packet.rumours for packet in packets)

    assert tellings(ALICE, BOB, incarnation=1) == transmissions(6)
    assert tellings(ALICE, BOB, CAROL, incarnation=2) == GOSSIP_FANOUT, "at once, and never again"


def named(other: LocalNode, facts: int, boot: int = 1) -> bytes:
    return encode(OutlineEntry(other.node[:PREFIX_BYTES], boot, facts))


def hear_named(bench: Bench, sender: LocalNode, *entries: bytes) -> list[Effect]:
    return bench.tell(Received(sender.node, encode_packet(None, [], entries)))


def packets_to(other: LocalNode, effects: list[Effect]) -> list[Packet]:
    sent = [one for one in of(SendDatagram, effects) if one.peer == other.node]
    return [decode_packet(one.payload, one.peer) for one in sent]


def whole_fact(other: LocalNode, value: bytes, version: int = 1) -> bytes:
    """Of one that has said nothing else."""
    digest, table = hashlib.sha256(value).digest(), fingerprint({"load": version})
    header = FactHeader(other.node, 1, "load", version, len(value), digest, table)
    return seal_fact(header, value, other.signer, MESH_ID).encoded


def test_a_fact_that_is_named_and_lacking_is_asked_for_and_then_told_by_name_only() -> None:
    bench = Bench("alice", "bob", "carol")
    bench.run_answered(20.0, ALICE, BOB, CAROL)
    asked = packets_to(BOB, hear_named(bench, BOB, named(ALICE, 1)))
    assert {packet.outline for packet in asked} == {(named(ALICE, 0),)}
    bench.hear(BOB, whole_fact(ALICE, b"news"))
    entry = bench.engine.view(bench.now, {}).get(ALICE.node)
    assert entry is not None
    assert entry.facts == {"load": b"news"}
    effects = bench.run_answered(5.0, ALICE, BOB, CAROL)
    told = [packet for one in (ALICE, BOB, CAROL) for packet in packets_to(one, effects)]
    assert not any(packet.rumours for packet in told)
    assert sum(named(ALICE, 1) in packet.outline for packet in told) == transmissions(4) + WHOLE_TELLINGS


def test_a_question_that_is_not_answered_is_put_again_to_others_too_and_not_for_ever() -> None:
    bench = Bench("alice", "bob", "carol")
    bench.run_answered(20.0, ALICE, BOB, CAROL)
    effects = hear_named(bench, BOB, named(ALICE, 1)) + bench.run_answered(5.0, ALICE, BOB, CAROL)
    questions = [one for one in packets_to(BOB, effects) if named(ALICE, 0) in one.outline]
    assert len(questions) >= 2
    assert any(named(ALICE, 0) in one.outline for one in packets_to(CAROL, effects))
    later = of(SendDatagram, bench.run_answered(3.0, ALICE, BOB, CAROL))
    assert not any(named(ALICE, 0) in one.payload for one in later)


def test_where_much_is_lacking_questions_wait_for_the_next_round() -> None:
    bench = Bench("alice", "bob", "carol", "dave")
    bench.run_answered(20.0, ALICE, BOB, CAROL, DAVE)
    assert packets_to(BOB, hear_named(bench, BOB, named(ALICE, 1)))
    assert not packets_to(BOB, hear_named(bench, BOB, named(DAVE, 1)))
    effects = bench.run_answered(LAN.gossip_s + 0.1, ALICE, BOB, CAROL, DAVE)
    assert any(named(DAVE, 0) in packet.outline for packet in packets_to(BOB, effects))


def test_one_whose_outline_shows_that_it_lacks_facts_is_told_them() -> None:
    bench = Bench("alice", "bob")
    bench.hear(BOB, whole_fact(ALICE, b"news"))
    (answer,) = packets_to(BOB, hear_named(bench, BOB, named(ALICE, 0)))
    assert whole_fact(ALICE, b"news") in answer.rumours
    bench.run_answered(20.0, ALICE, BOB)
    for entry in (named(ALICE, 1), named(ALICE, 5, boot=2), named(CAROL, 3)):
        assert not packets_to(BOB, hear_named(bench, BOB, entry)), "the same, of another life, of a stranger"


def test_one_who_always_lacks_facts_is_told_so_often_and_no_more() -> None:
    bench = Bench("alice", "bob")
    bench.hear(BOB, whole_fact(ALICE, b"news"))
    answers = [packets_to(BOB, hear_named(bench, BOB, named(ALICE, 0))) for _ in range(200)]
    assert len([one for one in answers if one]) <= OUTLINES.burst
    assert bench.engine.counters["asked_too_often"] >= 200 - OUTLINES.burst


def test_a_name_that_cannot_be_read_is_counted() -> None:
    bench = Bench("alice")
    hear_named(bench, ALICE, b"nonsense")
    assert bench.engine.counters["refused"] == 1


def test_saying_the_same_again_says_nothing() -> None:
    bench = Bench("alice")
    bench.tell(LocalUpdate("load", b"1", is_urgent=True))
    assert Notify() not in bench.tell(LocalUpdate("load", b"1", is_urgent=True))


@pytest.mark.parametrize("update", [LocalUpdate("", b""), LocalUpdate("key", b"x" * 65537)])
def test_own_facts_out_of_bounds_are_refused_to_the_caller(update: LocalUpdate) -> None:
    with pytest.raises(ValueError, match="fact"):
        Bench("alice").tell(update)


# -- links


def test_a_member_heard_of_is_kept_and_remembered() -> None:
    bench = Bench("bob")
    effects = bench.hear(BOB, record(ALICE))
    assert of(Keep, effects) == [Keep(ALICE.node, ALICE.addresses)]
    ((places),) = [dict(one.addresses) for one in of(Persist, effects)]
    assert places[ALICE.node] == ALICE.addresses


def test_a_member_that_left_is_dropped_and_one_that_died_is_not() -> None:
    bench = Bench("alice", "bob", "carol")
    assert of(Drop, bench.bury(ALICE)) == []
    effects = bench.hear(CAROL, record(CAROL, has_left=True))
    assert [one.node for one in of(Drop, effects)] == [CAROL.node]
    # Most who leave only restart: their places stay in the book.
    assert [CAROL.node in dict(one.addresses) for one in of(Persist, effects)] == [True]


def test_a_seed_is_kept_until_its_node_tells_its_own_addresses() -> None:
    bench = Bench()
    place = (Address("192.0.2.1", 7842),)
    effects = bench.tell(Seed(ALICE.node, place))
    assert of(Keep, effects) == [Keep(ALICE.node, place)]
    assert of(Persist, effects) == [Persist(((ALICE.node, place),))]
    bench.tell(Connected(as_peer(ALICE)))
    assert of(Keep, bench.hear(ALICE, record(ALICE))) == [Keep(ALICE.node, ALICE.addresses)]


def test_another_word_on_where_a_node_is_does_not_hide_the_first() -> None:
    bench = Bench()
    true, false = (Address("192.0.2.1", 7842),), (Address("192.0.2.66", 7842),)
    bench.tell(Seed(ALICE.node, true))

    assert of(Keep, bench.tell(Seed(ALICE.node, false))) == [Keep(ALICE.node, false + true)]
    assert of(Keep, bench.tell(Seed(ALICE.node, true))) == []


def test_a_member_that_moved_is_looked_for_there_and_not_remembered_there() -> None:
    bench = Bench()
    bench.tell(Connected(as_peer(ALICE)))
    bench.hear(ALICE, record(ALICE))
    elsewhere = (Address("192.0.2.99", 7842),)

    effects = bench.tell(Seed(ALICE.node, elsewhere))

    assert of(Keep, effects) == [Keep(ALICE.node, elsewhere + ALICE.addresses)]
    assert [dict(one.addresses)[ALICE.node] for one in of(Persist, effects)] == [ALICE.addresses]
    assert bench.tell(Seed(ALICE.node, ALICE.addresses)) == []


def test_its_own_address_is_no_seed() -> None:
    bench = Bench()
    assert bench.tell(Seed(bench.me.node, bench.me.addresses)) == []


def test_joining_compares_notes_at_once() -> None:
    bench = Bench()
    effects = bench.tell(Connected(as_peer(ALICE)))
    (sent,) = of(SendReliable, effects)
    message = decode_reliable(sent.payload, sent.peer)
    assert sent.peer == ALICE.node
    assert isinstance(message, Digest)
    assert message.is_request


def test_an_unanswered_exchange_is_tried_again_while_the_link_lasts() -> None:
    bench = Bench()
    bench.tell(Connected(as_peer(ALICE)))
    assert any(one.peer == ALICE.node for one in of(SendReliable, bench.run(2.5)))
    bench.tell(Disconnected(ALICE.node, "gone", True))
    assert of(SendReliable, bench.run(15.0)) == []


# -- what is refused


def test_a_large_fact_is_told_by_header_and_pulled() -> None:
    bench = Bench("alice", "bob")
    whole = decode_rumour(fact(ALICE, value=b"x" * 5000), ALICE.node)
    assert isinstance(whole, FactRumour)
    bench.hear(BOB, encode(FactRumour(whole.header, whole.signature, None)))
    asked = of(SendReliable, bench.run(0.5))
    assert [one.peer for one in asked if isinstance(decode_reliable(one.payload, one.peer), Digest)] == [BOB.node]


def test_malformed_datagrams_are_counted_and_change_nothing() -> None:
    bench = Bench("alice")
    before = bench.engine.view(bench.now, {})
    for junk in (b"", b"\xc1", b"\x93\x01\xc0\x91\xa0", b"x" * 1100):
        bench.tell(Received(ALICE.node, junk))
        bench.tell(ReliableReceived(as_peer(ALICE), junk))
    assert bench.engine.counters["malformed"] == 8
    assert bench.engine.view(bench.now, {}) == before


def test_a_bad_rumour_costs_only_itself() -> None:
    bench = Bench("alice")
    bench.hear(ALICE, b"junk", record(BOB))
    assert bench.engine.counters["refused"] == 1
    assert bench.status(BOB) is Status.ALIVE


def test_forged_and_edited_statements_are_counted_and_not_believed() -> None:
    mesh = RealMesh()
    me, alice, bob = mesh.member("me"), mesh.member("alice"), mesh.member("bob")
    engine = Engine(me, mesh.verifier(), LAN, random.Random(1), 0.0)

    def hear(*rumours: bytes) -> None:
        engine.handle(1.0, Received(alice.node, encode_packet(None, list(rumours))))

    engine.handle(1.0, Connected(as_peer(alice)))
    hear(record(alice), record(bob))
    forged = [
        record(dataclasses.replace(bob, signer=alice.signer), boot=2),
        record(dataclasses.replace(bob, certificate=alice.certificate, signer=alice.signer), boot=2),
        record(RealMesh(seed=3).member("eve")),
        record(dataclasses.replace(bob, signer=alice.signer), has_left=True),
        fact(dataclasses.replace(bob, signer=alice.signer)),
        fact(bob).replace(b"load", b"lood"),
    ]
    for count, rumour in enumerate(forged, start=1):
        hear(rumour)
        assert engine.counters["refused"] == count
    entry = engine.view(1.0, {}).get(bob.node)
    assert entry is not None
    assert (entry.boot, entry.status, dict(entry.facts)) == (1, Status.ALIVE, {})
    hear(fact(bob))
    entry = engine.view(1.0, {}).get(bob.node)
    assert entry is not None
    assert dict(entry.facts) == {"load": b"1"}


def test_replayed_statements_change_nothing() -> None:
    bench = Bench("alice", "bob")
    bench.hear(ALICE, record(ALICE, incarnation=1), fact(ALICE, value=b"1", version=1))
    bench.hear(ALICE, record(ALICE, boot=2), fact(ALICE, value=b"2", version=5, boot=2))
    before = bench.engine.view(bench.now, {})
    bench.hear(BOB, record(ALICE, incarnation=1), record(ALICE), accuse(ALICE, BOB, incarnation=1, dead=True))
    bench.hear(BOB, fact(ALICE, value=b"1", version=1), fact(ALICE, value=b"old", version=4, boot=2))
    assert bench.engine.view(bench.now, {}) == before


def test_a_relay_that_alters_a_fact_in_a_delta_is_refused() -> None:
    bench = Bench("alice", "bob")
    entry = DeltaEntry(ALICE.node, b"", Status.ALIVE, b"", 0.0, (fact(ALICE)[:-1] + b"9",))
    bench.hear_reliably(BOB, Delta((entry,), False))
    assert bench.engine.counters["refused"] == 1
    assert dict(bench.engine.view(bench.now, {}).nodes[1].facts) == {}


def test_a_member_that_was_here_is_not_forgotten_for_being_called_long_dead() -> None:
    bench = Bench("alice", "bob", "carol")
    bench.hear(ALICE, record(ALICE, incarnation=3))
    long_dead = DeltaEntry(ALICE.node, record(ALICE, incarnation=3), Status.DEAD, BOB.node, 10 * 86400.0, ())
    bench.hear(BOB, accuse(ALICE, BOB, incarnation=3))

    bench.hear_reliably(BOB, Delta((long_dead,), False))
    bench.run(15.0)
    bench.hear(BOB, record(ALICE, incarnation=1))

    entry = bench.engine.view(bench.now, {}).get(ALICE.node)
    assert entry is not None
    assert (entry.status, entry.incarnation) == (Status.DEAD, 3)


rumours_of_a_rogue = st.one_of(
    st.builds(
        Accusation,
        st.sampled_from([cheap_self(name).node for name in ("me", "alice", "bob", "carol", "nobody")]),
        st.integers(0, 3),
        st.one_of(st.integers(0, 3), st.just(2**53 - 1)),
        st.booleans(),
        st.sampled_from([cheap_self(name).node for name in ("me", "alice", "bob", "nobody")]),
    ).map(encode),
    st.builds(lambda boot, incarnation: record(ALICE, boot, incarnation), st.integers(0, 3), st.integers(0, 2**53 - 1)),
    st.builds(lambda version, value: fact(ALICE, "load", value, version), st.integers(1, 2**53 - 1), st.binary()),
    st.binary(max_size=80),
)
rogue_messages = st.one_of(
    st.builds(Packet, st.none(), st.lists(rumours_of_a_rogue, max_size=4).map(tuple)),
    st.builds(
        Delta,
        st.lists(
            st.builds(
                DeltaEntry,
                st.sampled_from([ALICE.node, BOB.node, cheap_self("me").node]),
                rumours_of_a_rogue,
                st.sampled_from(Status),
                st.one_of(st.just(b""), st.just(BOB.node), st.binary(max_size=32)),
                st.floats(0, 1e9),
                st.lists(rumours_of_a_rogue, max_size=3).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
        st.booleans(),
    ),
)


@settings(deadline=None)
@given(st.lists(st.tuples(rogue_messages, st.floats(0.0, 1.5)), max_size=12))
def test_whatever_a_rogue_member_says_it_stays_alive_in_its_own_eyes_and_numbers_never_fall(
    said: list[tuple[Packet | Delta, float]],
) -> None:
    bench = Bench("alice", "bob", "carol")
    standings: dict[NodeId, tuple[int, int]] = {}
    for message, pause_s in said:
        bench.hear_reliably(ALICE, message)
        bench.run(pause_s)
        view = bench.engine.view(bench.now, {})
        assert view.me.status is Status.ALIVE
        for entry in view.nodes:
            numbers = (entry.boot, entry.incarnation)
            assert numbers >= standings.get(entry.node, (0, 0))
            standings[entry.node] = numbers
    # Only Alice, who signs for herself, can raise her numbers far.
    assert all(max(numbers) < 100 for node, numbers in standings.items() if node != ALICE.node)


def test_strangers_datagrams_are_not_read() -> None:
    bench = Bench()
    bench.tell(Received(ALICE.node, encode_packet(Ping(1), [record(BOB)])))
    assert bench.engine.counters["unwelcome_datagram"] == 1
    assert bench.status(BOB) is None


# -- clients


def test_a_linked_client_is_shown_and_neither_probed_nor_gossiped_to() -> None:
    bench = Bench("alice")
    bench.tell(Connected(as_peer(LAPTOP)))
    entry = bench.engine.view(bench.now, {}).get(LAPTOP.node)
    assert entry is not None
    assert (entry.role, entry.linked, entry.is_usable, entry.name) == (Role.CLIENT, True, False, "laptop")
    effects = bench.run(30.0)
    sent = {one.peer: None for one in effects if isinstance(one, SendDatagram | SendReliable)}
    assert ALICE.node in sent
    assert LAPTOP.node not in sent
    bench.tell(Disconnected(LAPTOP.node, "gone", True))
    assert bench.engine.view(bench.now, {}).get(LAPTOP.node) is None


def test_a_client_is_answered_and_not_asked() -> None:
    bench = Bench("alice")
    bench.tell(Connected(as_peer(LAPTOP)))
    answers = replies(bench.hear_reliably(LAPTOP, Digest(True, ())))
    assert all(isinstance(answer, Delta) for answer in answers)
    told = [entry.node for answer in answers if isinstance(answer, Delta) for entry in answer.entries]
    assert sorted(told) == sorted([bench.me.node, ALICE.node])


def test_nothing_that_a_client_asserts_is_believed() -> None:
    bench = Bench("alice")
    bench.tell(Connected(as_peer(LAPTOP)))
    before = bench.engine.view(bench.now, {})
    bench.hear(LAPTOP, record(BOB), accuse(ALICE, BOB, dead=True))
    bench.hear_reliably(LAPTOP, Packet(None, (accuse(ALICE, BOB),)))
    bench.hear_reliably(LAPTOP, Digest(False, ()))
    bench.hear_reliably(LAPTOP, Delta((DeltaEntry(BOB.node, record(BOB), Status.ALIVE, b"", 0.0, ()),), False))
    assert bench.engine.view(bench.now, {}) == before
    assert bench.engine.counters["unwelcome_datagram"] == 1
    assert bench.engine.counters["unwelcome_message"] == 3


def test_a_client_engine_only_asks() -> None:
    bench = Bench(role=Role.CLIENT)
    bench.tell(Connected(as_peer(ALICE)))
    bench.hear_reliably(ALICE, Delta((DeltaEntry(ALICE.node, record(ALICE), Status.ALIVE, b"", 0.0, ()),), False))
    bench.tell(Hint(ALICE.node, "a call failed"))
    effects = bench.run(10.0)
    assert of(SendDatagram, effects) == []
    asked = of(SendReliable, effects)
    assert 9 <= len(asked) <= 11
    assert all(isinstance(decode_reliable(one.payload, one.peer), Digest) for one in asked)
    assert bench.status(ALICE) is Status.ALIVE
