"""Laws that hold for anything: the order of statements, encodings, and that nothing grows without end."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gossip.broadcast
import gossip.contacts
from gossip.asking import Asking
from gossip.broadcast import Broadcast, Topic
from gossip.contacts import MAX_PLACES, Contacts
from gossip.event import Drop, Keep, Persist
from gossip.facts import FactHeader, open_fact, read_header, seal_fact
from gossip.member import MemberBody, MemberRecord, Standing, merge, open_member, read_body, seal_member
from gossip.message import (
    MAX_OUTLINE_ENTRIES,
    MAX_RUMOURS_PER_PACKET,
    NAMING_COST,
    RUMOUR_BUDGET_BYTES,
    Accusation,
    FactRumour,
    MemberRumour,
    decode_rumour,
    rumour_cost,
)
from gossip.pacing import Pacer
from gossip.probe import MAX_ERRANDS, Prober
from gossip.roster import Roster
from gossip.teller import STATEMENTS_PER_WINDOW, Teller
from gossip.timing import LAN
from gossip.view import Status
from tests.gossip.identities import MESH_ID, CheapVerifier, cheap_self
from transport.interface import Address, NodeId, Role
from transport.wire import decode, encode

ME, ALICE, BOB = (cheap_self(name) for name in ("me", "alice", "bob"))
PEER = NodeId(b"p" * 32)
standings = st.builds(Standing, st.integers(0, 3), st.integers(0, 3), st.sampled_from(Status))
numbers = st.integers(0, 2**53 - 1)


# -- the order of statements


@given(standings, standings)
def test_of_any_two_standings_one_is_later_or_they_are_the_same(one: Standing, other: Standing) -> None:
    assert [one < other, one == other, one > other].count(True) == 1
    assert merge(one, other) in (one, other)


@given(standings, st.sampled_from(Status))
def test_a_farewell_is_the_last_word_of_its_incarnation_and_of_no_later_one(one: Standing, status: Status) -> None:
    farewell = Standing(one.boot, one.incarnation, Status.LEFT)
    assert merge(farewell, Standing(one.boot, one.incarnation, status)) == farewell
    assert merge(farewell, Standing(one.boot, one.incarnation + 1, status)).status is status
    assert merge(farewell, Standing(one.boot + 1, 0, status)).status is status


def record(boot: int, incarnation: int, has_left: bool) -> MemberRecord:
    return MemberRecord(
        ALICE.node, b"", Role.MEMBER, b"", boot, incarnation, has_left, "alice", (), 1, bytes([boot, incarnation])
    )


def roster() -> Roster:
    def reseal(boot: int, incarnation: int, *, has_left: bool = False) -> MemberRecord:
        return MemberRecord(ME.node, b"", Role.MEMBER, b"", boot, incarnation, has_left, "me", (), 1, b"me")

    one = Roster(1, LAN, reseal, 0.0)
    one.learn(
        MemberRecord(BOB.node, b"", Role.MEMBER, b"", 1, 0, False, "bob", (), 1, b"bob"),
        0.0,
    )
    return one


@given(st.lists(standings, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_a_roster_ends_at_the_latest_standing_that_was_proved_whatever_the_order(
    said: list[Standing], dice: random.Random
) -> None:
    one = roster()
    shown = {(standing.boot, standing.incarnation) for standing in said}
    # Each statement as it comes again and again, in any order: an accusation proves nothing before its record.
    statements = [standing for standing in said for _ in range(2)]
    for _ in range(len(said) + 1):
        dice.shuffle(statements)
        for boot, incarnation, status in statements:
            one.learn(record(boot, incarnation, status is Status.LEFT), 1.0)
            if status in (Status.SUSPECT, Status.DEAD):
                accusation = Accusation(ALICE.node, boot, incarnation, status is Status.DEAD, BOB.node)
                one.accuse(accusation, 1.0, is_believed=True)
    assert one.entry(ALICE.node).standing == max(said)
    assert one.entry(ALICE.node).standing[:2] in shown
    assert one.present == 2 + one.entry(ALICE.node).is_probed


# -- encodings


@given(
    st.builds(
        MemberBody,
        st.just(ALICE.node),
        numbers,
        numbers,
        st.booleans(),
        st.text(max_size=64),
        st.lists(st.tuples(st.text(min_size=1, max_size=64), st.integers(1, 65535)), max_size=6).map(tuple),
        st.integers(1, 1 << 16),
    )
)
def test_a_record_survives_sealing_and_opening(body: MemberBody) -> None:
    sealed = seal_member(body, ALICE.certificate, ALICE.signer, MESH_ID)
    rumour = decode_rumour(sealed, PEER)
    assert isinstance(rumour, MemberRumour)
    if len(rumour.body) > 640:
        return  # longer than any node makes it: names are cut, and host names are addresses
    read = read_body(rumour, PEER)
    assert read == body
    opened = open_member(rumour, read, CheapVerifier(), MESH_ID, PEER)
    assert (opened.encoded, opened.standing[:2], opened.has_left) == (
        sealed,
        (body.boot, body.incarnation),
        body.has_left,
    )
    assert opened.addresses == tuple(Address(host, port) for host, port in body.addresses)


@given(st.text(min_size=1, max_size=64), st.integers(1, 2**53 - 1), numbers, st.binary(max_size=2000))
def test_a_fact_survives_sealing_telling_and_opening(key: str, version: int, boot: int, value: bytes) -> None:
    header = FactHeader(ALICE.node, boot, key, version, len(value), hashlib.sha256(value).digest(), b"t" * 8)
    fact = seal_fact(header, value, ALICE.signer, MESH_ID)
    assert decode(encode(header), FactHeader, peer=None, max_bytes=512) == header
    for encoded in (fact.encoded, fact.told):
        rumour = decode_rumour(encoded, PEER)
        assert isinstance(rumour, FactRumour)
        opened = open_fact(rumour, read_header(rumour, PEER), ALICE.public, CheapVerifier(), MESH_ID, PEER)
        assert (opened.key, opened.version, opened.boot) == (key, version, boot)
        assert opened.value in (value, None)
        assert opened.value is not None or len(value) > 512


# -- bounds

topics = st.builds(
    Topic,
    st.booleans(),
    st.sampled_from([ALICE.node, BOB.node, ME.node]),
    st.sampled_from(["", "load", "gpu", b"accuser"]),
)
broadcast_steps = st.one_of(
    st.tuples(st.just("put"), topics, st.binary(max_size=1200), st.booleans()),
    st.tuples(st.just("retract"), st.sampled_from([ALICE.node, BOB.node])),
    st.tuples(st.just("retract facts"), st.sampled_from([ALICE.node, BOB.node])),
    st.tuples(st.just("fill"), st.integers(1, 4)),
)


@settings(deadline=None)
@given(st.lists(broadcast_steps, max_size=60))
def test_rumours_are_bounded_told_at_most_so_often_and_one_a_topic(steps: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gossip.broadcast, "MAX_RUMOURS", 5)
        queue = Broadcast()
        waiting: dict[Topic, bytes] = {}
        told: Counter[Topic] = Counter()
        for step in steps:
            match step:
                case ("put", Topic() as topic, bytes(payload), bool(is_last)):
                    queue.put(topic, payload, is_last=is_last)
                    waiting[topic] = payload
                    told[topic] = 0
                case ("retract", bytes(subject)):
                    queue.retract(NodeId(subject))
                    waiting = {
                        topic: one for topic, one in waiting.items() if topic.is_fact or topic.subject != subject
                    }
                case ("retract facts", bytes(subject)):
                    queue.retract_facts(NodeId(subject))
                    waiting = {
                        topic: one for topic, one in waiting.items() if not topic.is_fact or topic.subject != subject
                    }
                case ("fill", int(limit)):
                    filled, named = queue.fill(limit)
                    assert len(named) <= MAX_OUTLINE_ENTRIES
                    assert len(filled) <= MAX_RUMOURS_PER_PACKET
                    assert sum(map(rumour_cost, filled)) + NAMING_COST * len(named) <= RUMOUR_BUDGET_BYTES
                    assert not Counter(filled) - Counter(waiting.values())
            assert len(queue) <= min(15, len(waiting)) + len({topic.subject for topic in waiting if topic.is_fact})


addresses = st.lists(
    st.builds(Address, st.sampled_from(["10.0.0.1", "10.0.0.2", "h"]), st.integers(1, 40)), max_size=30
)
contact_steps = st.tuples(
    st.sampled_from(["seed", "keep", "let_go", "forget"]), st.integers(0, 40).map(lambda n: NodeId(bytes([n]) * 32))
)


@settings(deadline=None)
@given(st.lists(st.tuples(contact_steps, addresses), max_size=60))
def test_contacts_are_bounded_and_what_is_kept_was_asked_for(
    steps: list[tuple[tuple[str, NodeId], list[Address]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("MAX_SEEDS", "MAX_FORMER"):
            patch.setattr(gossip.contacts, bound, 6)
        contacts = Contacts(ME.node)
        kept: set[NodeId] = set()
        members: set[NodeId] = set()
        for (step, node), places in steps:
            match step:
                case "seed":
                    contacts.seed(node, tuple(places))
                case "keep":
                    contacts.keep(node, tuple(places))
                    members.add(node)
                case "let_go":
                    contacts.let_go(node, "test")
                    members.discard(node)
                case _:
                    contacts.forget(node, "test")
                    members.discard(node)
            for effect in contacts.take_effects():
                match effect:
                    case Keep(one, where):
                        kept.add(one)
                        assert one in members or len(where) <= MAX_PLACES
                    case Drop(one):
                        kept.discard(one)
                    case Persist(book):
                        assert len(book) <= len(members) + 12
            assert len(kept - members) <= 6


@given(st.lists(st.tuples(st.sampled_from(["once", "soon", "greet", "answered"]), st.integers(0, 5), st.floats(0, 3))))
def test_nobody_is_asked_twice_at_a_time_nor_more_often_than_every_other_second(
    steps: list[tuple[str, int, float]],
) -> None:
    asking, now = Asking(LAN, random.Random(1)), 0.0
    asked: dict[NodeId, float] = {}
    for step, number, pause_s in steps:
        now += pause_s
        peer = NodeId(bytes([number]) * 32)
        match step:
            case "once":
                asking.at_once(peer, now)
                asked.pop(peer, None)
            case "soon":
                asking.soon(peer, now)
            case "greet":
                asking.greet(peer, now)
            case _:
                asking.answered(peer)
                asked.pop(peer, None)
        for one in asking.take_greetings(now):
            asking.at_once(one, now)
        questions = asking.take_questions(now)
        assert len(set(questions)) == len(questions) <= 6
        for one in questions:
            assert now - asked.get(one, float("-inf")) > 1.99
            asked[one] = now
        assert len(asking.deadlines()) <= 12


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 3), st.booleans()), max_size=40))
def test_a_key_is_said_at_most_once_an_interval_and_the_last_word_is_not_lost(
    steps: list[tuple[str, float, bool]],
) -> None:
    pacer, now = Pacer(), 0.0
    said: dict[str, bytes] = {}
    wanted: dict[str, bytes] = {}
    for count, (key, pause_s, is_urgent) in enumerate(steps):
        now += pause_s
        said.update({one: what for one, what, _ in pacer.due(10, now)})
        value = wanted[key] = b"%d" % count
        if pacer.admit(key, value, 10, now, is_urgent=is_urgent):
            said[key] = value
    said.update({one: what for one, what, _ in pacer.due(10, now + 2.1)})
    assert said == wanted


def test_errands_and_probes_are_bounded() -> None:
    prober = Prober(LAN, random.Random(1), 0.0)
    begun = [prober.begin(PEER, 0.0) for _ in range(100)]
    assert sum(probe is not None for probe in begun) == 1
    run = [prober.run_errand(PEER, ALICE.node, number, 0.0) for number in range(2 * MAX_ERRANDS)]
    assert sum(sequence is not None for sequence in run) == MAX_ERRANDS


def test_a_subject_of_much_news_is_told_after_the_others() -> None:
    counters: Counter[str] = Counter()
    teller = Teller(counters, is_silent=False)
    for incarnation in range(STATEMENTS_PER_WINDOW + 1):
        teller.tell_record(record(1, incarnation, False), 1.0)
    teller.tell_accusation(BOB.node, ME.node, b"accusation", 1.0)
    assert counters["told_last"] == 1
    assert teller.rumours.fill(6).rumours == [b"accusation", bytes([1, STATEMENTS_PER_WINDOW])]
    teller.tell_record(record(2, 0, False), 12.0)
    assert teller.rumours.fill(6, max_rumours=1).rumours == [bytes([2, 0])]
    assert counters["told_last"] == 1
