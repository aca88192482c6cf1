"""What is named is asked for where it is lacking, and told where the other lacks it."""

from __future__ import annotations

import hashlib

from gossip.broadcast import Broadcast
from gossip.facts import Fact, FactHeader, FactStore, fingerprint, seal_fact
from gossip.message import OutlineEntry
from gossip.naming import MAX_QUESTIONS, Naming
from tests.gossip.identities import MESH_ID, cheap_self
from transport.interface import NodeId

ME, ALICE, BOB = (cheap_self(name) for name in ("me", "alice", "bob"))


def said(version: int) -> Fact:
    value = b"%d" % version
    table = fingerprint({"load": version})
    header = FactHeader(ALICE.node, 1, "load", version, len(value), hashlib.sha256(value).digest(), table)
    return seal_fact(header, value, ALICE.signer, MESH_ID)


def named(node: NodeId, version: int, boot: int = 1) -> OutlineEntry:
    return OutlineEntry(node[:8], boot, version)


class Bench:
    """This node, which knows Alice's facts up to version 5."""

    def __init__(self) -> None:
        self.facts, self.rumours = FactStore(), Broadcast()
        for node in (ME.node, ALICE.node):
            self.facts.begin(node, 1)
        self.facts.put(said(5))
        self.naming = Naming(ME.node, self.facts, self.rumours)


def test_who_names_more_is_asked_and_who_names_less_is_told() -> None:
    bench = Bench()
    assert bench.naming.compare([named(ALICE.node, 5)], BOB.node) == ([], [])
    assert bench.naming.compare([named(ALICE.node, 4)], BOB.node) == ([], [said(5).told])
    assert not bench.naming
    assert bench.naming.compare([named(ALICE.node, 6)], BOB.node) == ([ALICE.node], [])
    assert bench.naming.take_questions() == {BOB.node: [ALICE.node]}


def test_of_an_unknown_node_or_boot_or_of_this_node_nothing_is_asked() -> None:
    bench = Bench()
    entries = [named(BOB.node, 3), named(ALICE.node, 6, boot=2), named(ME.node, 9)]
    assert bench.naming.compare(entries, BOB.node) == ([], [])
    assert not bench.naming.take_questions()


def test_what_does_not_come_is_asked_for_so_often_and_shown_to_others_from_the_second_time_on() -> None:
    bench = Bench()
    bench.naming.compare([named(ALICE.node, 6)], BOB.node)
    for time in range(MAX_QUESTIONS):
        assert bench.naming.take_questions() == {BOB.node: [ALICE.node]}
        assert bench.rumours.fill(limit=1).named == ([ALICE.node] if time else [])
    assert not bench.naming.take_questions()
    assert not bench.naming


def test_a_question_between_two_rounds_counts_as_one() -> None:
    bench = Bench()
    lacking, _ = bench.naming.compare([named(ALICE.node, 6)], BOB.node)
    bench.naming.note_asked(lacking)
    assert sum(bool(bench.naming.take_questions()) for _ in range(MAX_QUESTIONS)) == MAX_QUESTIONS - 1


def test_what_has_come_is_not_asked_for() -> None:
    bench = Bench()
    for is_noted in (True, False):
        bench.naming.compare([named(ALICE.node, 6)], BOB.node)
        if is_noted:
            assert bench.naming.has_come(ALICE.node)
            assert not bench.naming.has_come(ALICE.node)
        else:
            bench.facts.put(said(6))
        assert not bench.naming.take_questions()
