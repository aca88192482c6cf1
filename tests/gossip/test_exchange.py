"""Digest and delta: any two nodes that compare notes end with the same knowledge, in bounded pages."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.exchange import EXCHANGE_BYTES, Exchange
from gossip.facts import seal_fact
from gossip.knowledge import Knowledge
from gossip.member import LocalNode, MemberBody, seal_member
from gossip.message import PAGE_BYTES, Accusation, Delta, Digest, decode_reliable
from gossip.timing import LAN
from gossip.view import Status
from tests.gossip.identities import MESH_ID, CheapVerifier, cheap_self
from transport.interface import MAX_RECORD_BYTES, NodeId, Role
from transport.wire import encode

NAMES = ("alice", "bob", "carol", "dave")
THIRD_PARTIES = {name: cheap_self(name) for name in NAMES}
NOW = 100.0

Story = tuple[str, int, int, Status, int]
"""name, boot, incarnation, status, how many facts of that boot are known (all from the first on)."""

stories = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 3), st.integers(0, 2), st.sampled_from(Status), st.integers(0, 4)),
    max_size=8,
)


def knowledge(name: str, role: Role = Role.MEMBER) -> Knowledge:
    return Knowledge(cheap_self(name, role), CheapVerifier(), LAN, 0.0)


def record_bytes(me: LocalNode, boot: int, incarnation: int, *, has_left: bool = False) -> bytes:
    body = MemberBody(me.node, boot, incarnation, has_left, me.name, (("10.0.0.1", 7842),), 1)
    return seal_member(body, me.certificate, me.signer, MESH_ID)


def fact_bytes(me: LocalNode, boot: int, count: int, size: int = 3) -> list[bytes]:
    """The first `count` facts that this node said in that boot, always the same ones."""
    owner = Knowledge(dataclasses.replace(me, boot=boot), CheapVerifier(), LAN, 0.0)
    encoded = []
    for index in range(count):
        value = b"%d" % (boot * 10 + index) + b"." * size
        fact = seal_fact(owner.facts.next_header(me.node, f"key{index}", value), value, me.signer, MESH_ID)
        owner.facts.put(fact)
        encoded.append(fact.encoded)
    return encoded


def tell(whom: Knowledge, story: Story) -> None:
    """Let `whom` hear the story of one third party as rumours."""
    name, boot, incarnation, status, facts = story
    me = THIRD_PARTIES[name]
    whom.hear(record_bytes(me, boot, incarnation, has_left=status is Status.LEFT), me.node, NOW)
    if status in (Status.SUSPECT, Status.DEAD):
        accuser = THIRD_PARTIES["alice" if name != "alice" else "bob"]
        whom.hear(record_bytes(accuser, 1, 0), me.node, NOW)
        said = Accusation(me.node, boot, incarnation, status is Status.DEAD, accuser.node)
        # A death that is heard of out of the blue enters as a suspicion, whose clock has run out by now.
        whom.hear(encode(said), accuser.node, NOW - 10.0 if said.dead else NOW)
        whom.expire(NOW)
    for fact in fact_bytes(me, boot, facts):
        whom.hear(fact, me.node, NOW)


def compare_notes(one: Knowledge, other: Knowledge) -> None:
    """One whole exchange, opened by `one`."""
    here, there = Exchange(one.roster, one.facts), Exchange(other.roster, other.facts)
    other_node, one_node = other.roster.own.node, one.roster.own.node
    opening = decode_reliable(here.digest(True), one_node)
    assert isinstance(opening, Digest)
    answers = there.answer(opening, NOW)
    closing = decode_reliable(there.digest(False), other_node)
    assert isinstance(closing, Digest)
    for page in answers:
        take(one, page, other_node)
    for page in here.answer(closing, NOW):
        take(other, page, one_node)


def take(whom: Knowledge, page: bytes, peer: NodeId) -> Delta:
    delta = decode_reliable(page, peer)
    assert isinstance(delta, Delta)
    whom.apply(delta, peer, NOW)
    return delta


def picture(of: Knowledge) -> dict[NodeId, tuple[object, dict[str, bytes], int]]:
    return {
        member.node: (member.standing, dict(of.facts.shown(member.node)), of.facts.complete(member.node))
        for member in of.roster.members()
    }


def bury_suspects(whom: Knowledge) -> None:
    """A death learnt by comparing notes enters as a suspicion; let the clocks run out."""
    whom.expire(NOW + 1000.0)


@settings(deadline=None)
@given(stories, stories)
def test_any_two_nodes_agree_after_comparing_notes_twice(ours: list[Story], theirs: list[Story]) -> None:
    one, other = knowledge("one"), knowledge("other")
    for whom, told in ((one, ours), (other, theirs)):
        for story in told:
            tell(whom, story)
    compare_notes(one, other)
    for whom in (one, other):
        bury_suspects(whom)
    # Whoever was to be buried here was still held alive there: the second exchange settles it.
    compare_notes(other, one)
    for whom in (one, other):
        bury_suspects(whom)
    assert picture(one) == picture(other)
    assert one.counters["refused"] == other.counters["refused"] == 0


HISTORY = ("a", "b", "a", "c", "a", "b")
"""The keys that every third party in the tests below has set, in this order."""


def history(me: LocalNode) -> list[bytes]:
    """All that `me` ever said, each statement as it travels."""
    owner = Knowledge(me, CheapVerifier(), LAN, 0.0)
    encoded = []
    for number, key in enumerate(HISTORY):
        value = b"%d" % number
        fact = seal_fact(owner.facts.next_header(me.node, key, value), value, me.signer, MESH_ID)
        owner.facts.put(fact)
        encoded.append(fact.encoded)
    return encoded


HISTORIES = {name: history(me) for name, me in THIRD_PARTIES.items()}
heard = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, len(HISTORY) - 1)), max_size=12)


def after_hearing(name: str, said: list[tuple[str, int]]) -> Knowledge:
    """One that has met everyone, and then heard just these facts, in this order: gossip may lose any other."""
    one = knowledge(name)
    for me in THIRD_PARTIES.values():
        one.hear(record_bytes(me, 1, 0), me.node, NOW)
    for owner, number in said:
        one.hear(HISTORIES[owner][number], THIRD_PARTIES[owner].node, NOW)
    return one


def whole_up_to(whom: Knowledge, me: LocalNode) -> int:
    """The version up to which it can give all that `me` said: 0 where later facts have left gaps."""
    complete = whom.facts.complete(me.node)
    held = {fact.key: fact.version for fact in whom.facts.after(me.node, 0)}
    latest = {key: version for version, key in enumerate(HISTORY[:complete], start=1)}
    return complete if held == latest else 0


@settings(deadline=None)
@given(heard, heard)
def test_after_two_exchanges_each_of_any_two_nodes_knows_what_either_knew_whole(
    ours: list[tuple[str, int]], theirs: list[tuple[str, int]]
) -> None:
    one, other = after_hearing("one", ours), after_hearing("other", theirs)
    whole = {name: max(whole_up_to(one, me), whole_up_to(other, me)) for name, me in THIRD_PARTIES.items()}
    for _ in range(2):
        compare_notes(one, other)
    for name, me in THIRD_PARTIES.items():
        for whom in (one, other):
            # Nothing older: who heard some later facts keeps those, and its gaps, until it meets the owner.
            shown = whom.facts.shown(me.node)
            for number, key in enumerate(HISTORY[: whole[name]]):
                assert int(shown[key]) >= number
    assert one.counters["refused"] == other.counters["refused"] == 0


@settings(deadline=None)
@given(heard, heard)
def test_any_two_nodes_know_everything_once_each_has_met_whoever_said_it(
    ours: list[tuple[str, int]], theirs: list[tuple[str, int]]
) -> None:
    one, other = after_hearing("one", ours), after_hearing("other", theirs)
    everyone = after_hearing("everyone", [(name, number) for name in NAMES for number in range(len(HISTORY))])
    compare_notes(one, everyone)
    compare_notes(other, one)
    last = {key: b"%d" % number for number, key in enumerate(HISTORY)}
    for whom in (one, other):
        for me in THIRD_PARTIES.values():
            assert (whom.facts.complete(me.node), dict(whom.facts.shown(me.node))) == (len(HISTORY), last)


@settings(deadline=None)
@given(stories)
def test_an_exchange_between_equals_says_nothing(told: list[Story]) -> None:
    one, other = knowledge("one"), knowledge("other")
    for story in told:
        for whom in (one, other):
            tell(whom, story)
    compare_notes(one, other)
    digest = decode_reliable(Exchange(one.roster, one.facts).digest(True), one.roster.own.node)
    assert isinstance(digest, Digest)
    (page,) = Exchange(other.roster, other.facts).answer(digest, NOW)
    assert len(page) < 10


def test_a_death_learnt_from_another_enters_as_a_suspicion() -> None:
    one, other = knowledge("one"), knowledge("other")
    for whom, status in ((one, Status.ALIVE), (other, Status.DEAD)):
        tell(whom, ("carol", 1, 0, status, 0))
    compare_notes(one, other)
    carol = THIRD_PARTIES["carol"].node
    assert one.roster.entry(carol).status is Status.SUSPECT
    assert other.roster.entry(carol).status is Status.DEAD


def test_a_newcomer_takes_the_dead_for_dead_with_their_age() -> None:
    old, new = knowledge("old"), knowledge("new")
    tell(old, ("carol", 1, 0, Status.DEAD, 0))
    carol = THIRD_PARTIES["carol"].node
    here = Exchange(new.roster, new.facts)
    digest = decode_reliable(here.digest(True), new.roster.own.node)
    assert isinstance(digest, Digest)
    for page in Exchange(old.roster, old.facts).answer(digest, NOW + 500.0):
        take(new, page, old.roster.own.node)
    assert new.roster.entry(carol).status is Status.DEAD
    assert new.roster.entry(carol).since == NOW - 500.0


def test_a_digest_of_what_did_not_change_is_encoded_once() -> None:
    one = knowledge("one")
    exchange = Exchange(one.roster, one.facts)
    assert exchange.digest(True) is exchange.digest(True)
    before = exchange.digest(False)
    one.publish("load", b"1")
    assert exchange.digest(False) != before


def test_large_facts_are_paged_and_an_exchange_is_bounded() -> None:
    one, other = knowledge("one"), knowledge("other")
    members = [cheap_self(f"member{index}") for index in range(4)]
    for me in members:
        other.hear(record_bytes(me, 1, 0), me.node, NOW)
        for fact in fact_bytes(me, 1, 32, size=60_000):
            other.hear(fact, me.node, NOW)
    rounds, has_more = 0, True
    while has_more:
        rounds += 1
        digest = decode_reliable(Exchange(one.roster, one.facts).digest(True), one.roster.own.node)
        assert isinstance(digest, Digest)
        pages = Exchange(other.roster, other.facts).answer(digest, NOW)
        assert all(len(page) <= min(2 * PAGE_BYTES, MAX_RECORD_BYTES) for page in pages)
        assert sum(map(len, pages)) <= 2 * EXCHANGE_BYTES
        deltas = [take(one, page, other.roster.own.node) for page in pages]
        assert not any(delta.has_more for delta in deltas[:-1])
        has_more = deltas[-1].has_more
    assert rounds == 2
    assert all(one.facts.complete(me.node) == 32 for me in members)
