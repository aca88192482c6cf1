"""Probing: turns, rounds, helpers, errands and local health."""

from __future__ import annotations

import random

from gossip.probe import FEW, Errand, Probe, Prober, Rotation
from gossip.timing import LAN, MAX_HEALTH, WAN
from transport.interface import NodeId

NODES = [NodeId(bytes([index]) * 32) for index in range(1, 7)]
ALICE, BOB, CAROL, DAVE = NODES[:4]


def prober(health: int = 0) -> Prober:
    made = Prober(LAN, random.Random(1), 0.0)
    made.worsen(health)
    return made


def begin(one: Prober, now: float = 0.0, target: NodeId = ALICE) -> Probe:
    probe = one.begin(target, now)
    assert probe is not None
    return probe


def test_everyone_has_a_turn_before_anyone_has_two() -> None:
    rotation = Rotation(random.Random(3))
    for node in NODES:
        rotation.include(node, True)
    for _ in range(4):
        assert sorted(rotation.take() or b"" for _ in NODES) == NODES


def test_one_left_out_of_the_rotation_has_no_turn_and_costs_nobody_theirs() -> None:
    rotation = Rotation(random.Random(3))
    for node in NODES:
        rotation.include(node, True)
    first = rotation.take()
    assert first is not None
    rotation.include(first, False)
    rotation.include(first, False)
    assert sorted(rotation.take() or b"" for _ in NODES[1:]) == sorted(node for node in NODES if node != first)


def test_nobody_to_probe_is_no_probe() -> None:
    assert prober().begin_round(5.0) is None


def turns(one: Prober, seconds: int, wanting: list[NodeId]) -> list[list[NodeId]]:
    """Whom it begins to ask in each second; everyone answers."""
    asked: list[list[NodeId]] = []
    for half in range(2 * seconds):
        probe = one.begin_round(1.0 + half / 2, lambda: wanting)
        asked += [[]] if half % 2 == 0 else []
        if probe is not None:
            asked[-1].append(probe.target)
            one.acknowledge(probe.sequence, probe.target, 1.0 + half / 2)
    return asked


def of_many(others: int) -> Prober:
    one = prober()
    for index in range(others):
        one.rotation.include(NodeId(bytes([100 + index]) * 32), True)
    return one


def test_a_second_turn_comes_half_way_between_two_rounds_where_there_are_many() -> None:
    assert [len(asked) for asked in turns(of_many(FEW), 5, [])] == [1] * 5
    assert [len(asked) for asked in turns(of_many(FEW + 1), 5, [])] == [2] * 5


def test_a_suspect_against_whom_a_voice_is_wanting_is_asked_half_way() -> None:
    for others in (3, FEW + 1):
        asked = turns(of_many(others), 5, [ALICE])
        assert [ALICE in targets for targets in asked] == [True] * 5
        assert [len(targets) for targets in asked] == [2] * 5


def test_a_round_asks_around_after_the_time_out_and_fails_at_its_end() -> None:
    one = prober()
    probe = begin(one)
    assert one.to_ask_around(0.49) == []
    assert one.to_ask_around(0.5) == [probe]
    assert one.to_ask_around(0.6) == []
    assert one.failed(0.99) == []
    assert one.failed(1.0) == [probe]
    assert one.failed(2.0) == []


def test_a_target_is_asked_by_one_probe_at_a_time() -> None:
    one = prober()
    begin(one)
    assert one.begin(ALICE, 0.1, is_hinted=True) is None
    one.failed(1.0)
    assert one.begin(ALICE, 1.0) is not None


def test_a_hint_during_a_probe_is_kept_with_it_and_the_first_one_counts() -> None:
    one = prober()
    probe = begin(one)
    assert probe.hinted_at is None
    one.begin(ALICE, 0.1, is_hinted=True)
    one.begin(ALICE, 0.2, is_hinted=True)
    assert probe.hinted_at == 0.1


def test_an_ack_of_the_target_ends_the_probe() -> None:
    one = prober()
    probe = begin(one)
    assert one.acknowledge(probe.sequence, ALICE, 0.1) is probe
    assert one.failed(5.0) == []


def test_an_ack_counts_only_from_the_target_or_a_helper_that_was_asked() -> None:
    one = prober()
    probe = begin(one)
    assert one.acknowledge(probe.sequence, BOB, 0.1) is None
    probe.helpers[BOB] = None
    assert one.acknowledge(probe.sequence, CAROL, 0.1) is None
    assert one.acknowledge(probe.sequence, BOB, 0.1) is probe


def test_health_stretches_the_round() -> None:
    one = prober(health=2)
    probe = begin(one)
    assert (probe.ask_at, probe.fails_at) == (1.5, 3.0)


def test_health_suffers_from_missing_nacks_but_not_from_honest_ones() -> None:
    one = prober()
    begin(one).helpers.update({BOB: True, CAROL: False, DAVE: True})
    one.failed(1.0)
    assert one.health == 0
    begin(one, 1.0).helpers.update({BOB: None, CAROL: None, DAVE: True})
    one.failed(2.0)
    assert one.health == 2


def test_health_suffers_when_there_was_nobody_to_ask() -> None:
    one = prober()
    begin(one)
    one.failed(1.0)
    assert one.health == 1


def test_health_is_bounded_and_recovers_with_answers() -> None:
    one = prober(health=50)
    assert one.health == MAX_HEALTH
    for _ in range(20):
        one.acknowledge(begin(one).sequence, ALICE, 0.1)
    assert one.health == 0


def test_a_helper_says_whether_it_had_a_connection_to_try() -> None:
    one = prober()
    probe = begin(one)
    probe.helpers.update({BOB: None, CAROL: None})
    one.deny(probe.sequence, BOB, False)
    tried = [probe.was_tried]
    one.deny(probe.sequence, CAROL, True)
    tried.append(probe.was_tried)
    one.deny(probe.sequence, DAVE, True)
    assert tried == [False, True]
    assert probe.helpers == {BOB: False, CAROL: True}


def test_an_errand_ends_with_the_targets_ack_or_with_a_nack_before_the_asker_gives_up() -> None:
    one = prober()
    sequence = one.run_errand(ALICE, BOB, 77, 0.0)
    assert sequence is not None
    assert one.acknowledge(sequence, CAROL, 0.1) is None
    assert one.acknowledge(sequence, ALICE, 0.1) == Errand(ALICE, BOB, 77, 0.4)
    other = one.run_errand(ALICE, BOB, 78, 1.0)
    assert other is not None
    assert [errand.client_sequence for errand in one.failed_errands(1.4)] == [78]
    assert one.acknowledge(other, ALICE, 0.1) is None


def test_errands_are_bounded() -> None:
    one = prober()
    sequences = [one.run_errand(ALICE, BOB, index, 0.0) for index in range(1100)]
    assert sum(sequence is not None for sequence in sequences) == 1024


def test_after_a_pause_nothing_under_way_counts() -> None:
    one = prober()
    one.rotation.include(ALICE, True)
    begin(one)
    one.pause(100.0)
    assert one.failed(200.0) == []
    assert one.health == MAX_HEALTH
    assert one.begin_round(100.4) is None
    assert one.begin_round(100.5) is not None


def test_one_that_answers_from_far_away_is_given_the_time_of_a_wan() -> None:
    one = prober()
    for _ in range(12):
        one.acknowledge(begin(one, 10.0).sequence, ALICE, 10.3)
    far, near = begin(one, 20.0), begin(one, 20.0, BOB)
    assert (far.ask_at, far.fails_at) == (20.0 + WAN.probe_timeout_s, 20.0 + WAN.probe_s)
    assert (near.ask_at, near.fails_at) == (20.0 + LAN.probe_timeout_s, 20.0 + LAN.probe_s)
    one.acknowledge(far.sequence, ALICE, 20.01)
    for _ in range(12):
        one.acknowledge(begin(one, 30.0).sequence, ALICE, 30.01)
    assert begin(one, 40.0).fails_at == 40.0 + LAN.probe_s


def test_distance_and_health_are_not_multiplied() -> None:
    one = prober()
    for _ in range(12):
        one.acknowledge(begin(one, 10.0).sequence, ALICE, 10.3)
    one.worsen(MAX_HEALTH)
    assert begin(one, 20.0).fails_at == 20.0 + LAN.probe_s * (MAX_HEALTH + 1)


def test_what_a_helper_heard_says_nothing_of_the_distance() -> None:
    one = prober()
    for _ in range(12):
        probe = begin(one)
        probe.helpers[BOB] = None
        one.acknowledge(probe.sequence, BOB, 0.9)
    assert begin(one).fails_at == LAN.probe_s


def waking() -> Prober:
    """One that has just stood still, among others."""
    one = of_many(5)
    one.pause(100.0)
    assert one.health == MAX_HEALTH
    return one


def run_rounds(one: Prober, seconds: float, answer_s: float) -> None:
    """Everyone who is asked answers after `answer_s`."""
    now, end = 100.0, 100.0 + seconds
    while (now := one.next_deadline) < end:
        probe = one.begin_round(now)
        if probe is not None:
            one.acknowledge(probe.sequence, probe.target, now + answer_s)


def test_after_a_standstill_prompt_answers_restore_health_within_seconds() -> None:
    one = waking()
    run_rounds(one, 8.0, answer_s=0.02)
    assert one.health == 0


def test_after_a_standstill_late_answers_restore_health_step_by_step() -> None:
    one = waking()
    run_rounds(one, 8.0, answer_s=LAN.probe_timeout_s + 0.1)
    assert one.health >= MAX_HEALTH - 2


def test_after_a_standstill_a_probe_that_fails_ends_the_quick_recovery() -> None:
    one = waking()
    begin(one, 100.5)
    assert one.failed(120.0)
    probe = begin(one, 120.0)
    one.acknowledge(probe.sequence, ALICE, 120.01)
    assert one.health == MAX_HEALTH - 1
