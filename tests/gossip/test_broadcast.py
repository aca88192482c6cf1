"""The queue of rumours."""

from __future__ import annotations

import pytest

from gossip.broadcast import KNOWERS, MAX_RUMOURS, WHOLE_TELLINGS, Broadcast, Topic, transmissions
from gossip.message import NAMING_COST, RUMOUR_BUDGET_BYTES, rumour_cost
from transport.interface import NodeId

ALICE, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)


@pytest.mark.parametrize(("nodes", "times"), [(1, 6), (5, 6), (9, 6), (10, 12), (99, 12), (200, 18), (1000, 24)])
def test_a_rumour_is_told_six_times_the_digits_of_the_mesh(nodes: int, times: int) -> None:
    assert transmissions(nodes) == times


def test_a_rumour_is_told_that_often_and_then_forgotten() -> None:
    queue = Broadcast()
    queue.put(Topic(False, ALICE), b"one")
    assert [queue.fill(3).rumours for _ in range(4)] == [[b"one"], [b"one"], [b"one"], []]
    assert len(queue) == 0


def test_membership_goes_before_facts_and_the_least_told_first() -> None:
    queue = Broadcast()
    queue.put(Topic(True, ALICE, "load"), b"fact")
    queue.put(Topic(False, ALICE), b"old news")
    queue.fill(9)
    queue.put(Topic(False, BOB), b"fresh news")
    assert queue.fill(9).rumours == [b"fresh news", b"old news", b"fact"]


def test_a_fact_is_told_whole_a_few_times_and_then_by_name() -> None:
    queue = Broadcast()
    queue.put(Topic(True, ALICE, "load"), b"fact")
    fillings = [queue.fill(6) for _ in range(2 * WHOLE_TELLINGS + 7)]
    whole: list[tuple[list[bytes], list[NodeId]]] = [([b"fact"], [])] * WHOLE_TELLINGS
    assert fillings == whole + [([], [ALICE])] * (WHOLE_TELLINGS + 6) + [([], [])]
    assert not queue


def test_tellings_of_others_count_so_that_whoever_hears_late_tells_little() -> None:
    queue = Broadcast()
    queue.put(Topic(True, ALICE, "load"), b"fact")
    for _ in range(WHOLE_TELLINGS - 1):
        queue.heard(b"fact")
    queue.heard(b"another")
    assert queue.fill(6) == ([b"fact"], [])
    assert queue.fill(6) == ([], [ALICE])


def test_a_later_fact_of_one_told_by_name_is_told_whole_again() -> None:
    queue = Broadcast()
    queue.name(ALICE)
    queue.put(Topic(True, ALICE, "load"), b"news")
    assert queue.fill(6) == ([b"news"], [ALICE])
    queue.retract_facts(ALICE)
    assert queue.fill(6) == ([], [])


def test_names_take_turns_and_leave_room_as_if_they_were_as_long_as_can_be() -> None:
    queue = Broadcast()
    subjects = [NodeId(bytes([number]) * 32) for number in range(40)]
    for subject in subjects:
        queue.name(subject)
    first, second = queue.fill(6), queue.fill(6)
    assert (first.named, second.named[:8]) == (subjects[:32], subjects[32:])
    assert len(queue.fill(6, budget=3 * NAMING_COST - 1).named) == 2


def test_news_replaces_what_it_supersedes() -> None:
    queue = Broadcast()
    queue.put(Topic(True, ALICE, "load"), b"before")
    queue.put(Topic(True, ALICE, "load"), b"after")
    assert queue.fill(9).rumours == [b"after"]


def test_what_enough_peers_know_is_told_no_more() -> None:
    queue = Broadcast()
    queue.put(Topic(False, ALICE), b"record")
    queue.put(Topic(True, ALICE, "load"), b"fact")
    peers = [NodeId(bytes([number]) * 32) for number in range(KNOWERS)]
    for _ in range(KNOWERS):
        queue.is_known_to(peers[0], ALICE, is_fact=False)
    assert queue.fill(99).rumours == [b"record", b"fact"], "one that knows it counts once, however often it says so"
    for peer in peers:
        queue.is_known_to(peer, ALICE, is_fact=False)
    assert queue.fill(99).rumours == [b"fact"]
    assert queue.subjects() == {ALICE}
    for peer in peers:
        queue.is_known_to(peer, ALICE, is_fact=True)
    assert (queue.fill(99).rumours, queue.subjects()) == ([], set())


def test_retracting_a_subject_leaves_its_facts_and_others() -> None:
    queue = Broadcast()
    queue.put(Topic(False, ALICE, BOB), b"accusation")
    queue.put(Topic(False, BOB), b"other")
    queue.put(Topic(True, ALICE, "load"), b"fact")
    queue.retract(ALICE)
    assert queue.fill(9).rumours == [b"other", b"fact"]
    queue.retract_facts(ALICE)
    assert queue.fill(9).rumours == [b"other"]


def test_a_packet_takes_what_fits_and_leaves_the_rest_for_the_next() -> None:
    queue = Broadcast()
    for index in range(5):
        queue.put(Topic(False, NodeId(bytes([index]) * 32)), bytes([index]) * 400)
    first, second = queue.fill(9).rumours, queue.fill(9).rumours
    assert [len(first), len(second)] == [2, 2]
    assert sum(map(rumour_cost, first)) <= RUMOUR_BUDGET_BYTES
    assert not {*first} & {*second}


def test_a_rumour_too_large_for_any_packet_is_left_to_anti_entropy() -> None:
    queue = Broadcast()
    queue.put(Topic(False, ALICE), b"x" * 1100)
    assert len(queue) == 0


def test_the_queue_is_bounded_and_drops_what_was_told_most() -> None:
    queue = Broadcast()
    queue.put(Topic(False, ALICE), b"told")
    queue.fill(9)
    for index in range(MAX_RUMOURS):
        queue.put(Topic(False, NodeId(index.to_bytes(32, "big"))), b"new")
    assert len(queue) == MAX_RUMOURS
    assert b"told" not in queue.fill(9, budget=10**9, max_rumours=10**9).rumours


def test_rumours_that_read_alike_are_forgotten_each_by_itself() -> None:
    queue = Broadcast()
    queue.put(Topic(False, ALICE), b"alike")
    queue.put(Topic(False, ALICE, "load"), b"alike")
    assert queue.fill(1).rumours == [b"alike", b"alike"]
    assert queue.fill(1).rumours == []
