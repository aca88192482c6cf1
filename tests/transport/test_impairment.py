"""Each impairment does what it says, to the share it says; all dice are seeded, so nothing here is chance."""

from __future__ import annotations

import random
from dataclasses import fields
from itertools import groupby

import pytest

from transport.impairment import (
    CLEAR,
    BurstLoss,
    Conditions,
    Delivery,
    Impairment,
    Rate,
    flip,
    parse_conditions,
)

PACKETS = 20_000
SIZE = 1200
GAP_S = 0.001


def impairment(conditions: Conditions, seed: int = 1) -> Impairment:
    return Impairment(conditions, random.Random(seed))


def send(link: Impairment, packets: int = PACKETS, gap_s: float = GAP_S, size: int = SIZE) -> list[list[Delivery]]:
    """What becomes of equal packets that enter at equal distances from time zero."""
    return [link.apply(number * gap_s, size) for number in range(packets)]


def share_lost(outcomes: list[list[Delivery]]) -> float:
    return sum(not outcome for outcome in outcomes) / len(outcomes)


def test_a_clear_link_delivers_at_once_and_whole() -> None:
    link = impairment(CLEAR)

    assert link.apply(5.0, SIZE) == [Delivery(5.0)]


def test_the_same_seed_replays_the_same_history() -> None:
    bad = Conditions(0.04, 0.01, 0.05, BurstLoss(0.01, 0.3), 0.02, 0.01, 0.02, 0.02, Rate(2e6))

    assert send(impairment(bad)) == send(impairment(bad))
    assert send(impairment(bad)) != send(impairment(bad, seed=2))


def test_delay_is_added_to_every_packet() -> None:
    outcomes = send(impairment(Conditions(delay_s=0.04)), 100)

    assert [outcome[0].at for outcome in outcomes] == pytest.approx([0.04 + GAP_S * n for n in range(100)])


def test_jitter_stays_within_its_bounds_and_keeps_the_order() -> None:
    outcomes = send(impairment(Conditions(delay_s=0.05, jitter_s=0.02)))

    arrivals = [outcome[0].at for outcome in outcomes]
    delays = [at - GAP_S * number for number, at in enumerate(arrivals)]
    assert arrivals == sorted(arrivals)
    assert min(delays) >= 0.03 and max(delays) <= 0.07
    assert max(delays) - min(delays) > 0.03


def test_jitter_beyond_the_delay_delivers_nothing_early() -> None:
    outcomes = send(impairment(Conditions(delay_s=0.001, jitter_s=0.05)))

    assert all(outcome[0].at >= GAP_S * number for number, outcome in enumerate(outcomes))


def test_loss_takes_its_share_and_one_packet_at_a_time() -> None:
    outcomes = send(impairment(Conditions(loss=0.1)))

    assert share_lost(outcomes) == pytest.approx(0.1, abs=0.01)
    assert mean_burst(outcomes) == pytest.approx(1 / 0.9, abs=0.05)


def mean_burst(outcomes: list[list[Delivery]]) -> float:
    bursts = [len(list(run)) for lost, run in groupby(outcomes, lambda outcome: not outcome) if lost]
    return sum(bursts) / len(bursts)


def test_bursts_lose_their_mean_share_in_runs_of_their_mean_length() -> None:
    bursts = BurstLoss(enter=0.01, leave=0.2)
    outcomes = send(impairment(Conditions(bursts=bursts)), 100_000)

    assert bursts.mean_loss == pytest.approx(0.01 / 0.21)
    assert share_lost(outcomes) == pytest.approx(bursts.mean_loss, abs=0.006)
    assert mean_burst(outcomes) == pytest.approx(5.0, abs=0.4)


def test_elliotts_bad_state_lets_some_through_and_his_good_state_loses_some() -> None:
    bursts = BurstLoss(enter=0.02, leave=0.1, loss_good=0.01, loss_bad=0.5)
    outcomes = send(impairment(Conditions(bursts=bursts)), 100_000)

    assert share_lost(outcomes) == pytest.approx(bursts.mean_loss, abs=0.01)


def test_bursts_that_never_begin_lose_nothing() -> None:
    assert BurstLoss(0.0, 0.0).mean_loss == 0.0
    assert share_lost(send(impairment(Conditions(bursts=BurstLoss(0.0, 0.0))), 1000)) == 0.0


def test_reordered_packets_are_overtaken_by_those_that_follow() -> None:
    outcomes = send(impairment(Conditions(delay_s=0.02, reorder=0.05, overtaken_s=0.0035)))

    arrivals = [outcome[0].at for outcome in outcomes]
    late = [number for number, at in enumerate(arrivals) if at > GAP_S * number + 0.0201]
    assert len(late) / PACKETS == pytest.approx(0.05, abs=0.006)
    for number in late[:-1]:
        on_time = [n for n in range(number + 1, number + 4) if n not in late]
        assert all(arrivals[n] < arrivals[number] for n in on_time)


def test_duplicates_arrive_twice_in_their_share() -> None:
    outcomes = send(impairment(Conditions(duplicate=0.03)))

    assert sum(len(outcome) == 2 for outcome in outcomes) / PACKETS == pytest.approx(0.03, abs=0.005)
    assert all(outcome for outcome in outcomes)


def test_corruption_flips_one_bit_inside_the_packet_in_its_share() -> None:
    outcomes = send(impairment(Conditions(corrupt=0.05)))

    bits = [outcome[0].damaged_bit for outcome in outcomes if outcome[0].damaged_bit is not None]
    assert len(bits) / PACKETS == pytest.approx(0.05, abs=0.006)
    assert 0 <= min(bits) < 8 * SIZE * 0.1 and 8 * SIZE * 0.9 < max(bits) < 8 * SIZE


def test_an_empty_packet_has_nothing_to_damage() -> None:
    assert impairment(Conditions(corrupt=1.0)).apply(0.0, 0) == [Delivery(0.0)]


def test_flip_changes_exactly_one_bit() -> None:
    assert flip(b"\x00\xff", 0) == b"\x01\xff"
    assert flip(b"\x00\xff", 15) == b"\x00\x7f"


def test_a_rate_spaces_what_its_bucket_does_not_hold() -> None:
    link = impairment(Conditions(rate=Rate(1000.0, burst_bytes=2000, queue_bytes=3000)))

    arrivals = [link.apply(0.0, 1000) for _ in range(6)]
    assert arrivals == [[Delivery(0.0)], [Delivery(0.0)], [Delivery(1.0)], [Delivery(2.0)], [Delivery(3.0)], []]
    assert link.dropped == {"queue": 1}


def test_a_rate_lets_its_share_through_in_the_long_run() -> None:
    offered = PACKETS * SIZE / (PACKETS * GAP_S)
    outcomes = send(impairment(Conditions(rate=Rate(offered / 4))))

    assert 1 - share_lost(outcomes) == pytest.approx(0.25, abs=0.02)


def test_an_idle_bucket_fills_to_its_brim_only() -> None:
    link = impairment(Conditions(rate=Rate(1000.0, burst_bytes=1000, queue_bytes=5000)))
    link.apply(0.0, 1000)

    assert link.apply(100.0, 1000) == [Delivery(100.0)]
    assert link.apply(100.0, 1000) == [Delivery(101.0)]


def test_a_rate_set_later_starts_with_a_full_bucket() -> None:
    link = impairment(CLEAR)
    link.apply(0.0, 1000)
    link.conditions = Conditions(rate=Rate(1000.0, burst_bytes=1000))

    assert [link.apply(1.0, 1000), link.apply(1.0, 1000)] == [[Delivery(1.0)], [Delivery(2.0)]]


def test_a_rate_that_was_lifted_and_set_again_starts_afresh() -> None:
    limited = Conditions(rate=Rate(1000.0, burst_bytes=1000))
    link = impairment(limited)
    for conditions in (limited, limited, CLEAR):
        link.conditions = conditions
        link.apply(0.0, 1000)
    link.conditions = limited

    link.apply(1.5, 500)
    assert link.apply(1.5, 500) == [Delivery(1.5)], "the old bucket held 500 bytes only"


def test_a_cut_lets_nothing_in_until_it_is_mended() -> None:
    link = impairment(CLEAR)
    link.is_cut = True
    assert link.apply(0.0, SIZE) == []

    link.is_cut = False
    assert link.apply(1.0, SIZE) == [Delivery(1.0)]
    assert (link.passed, link.dropped) == (1, {"cut": 1})


def test_a_shorter_delay_set_later_overtakes_nothing() -> None:
    link = impairment(Conditions(delay_s=1.0))
    link.apply(0.0, SIZE)
    link.conditions = Conditions(delay_s=0.1)

    assert link.apply(0.5, SIZE) == [Delivery(1.0)]
    assert link.apply(2.0, SIZE) == [Delivery(2.1)]


def test_conditions_are_read_as_people_type_them() -> None:
    text = (
        "delay=40ms, jitter=5ms,loss=5%,bursts=1%/25%,reorder=0.01,overtaken=0.5s,duplicate=2%,corrupt=0.1%,rate=10mbit"
    )

    expected = Conditions(0.04, 0.005, 0.05, BurstLoss(0.01, 0.25), 0.01, 0.5, 0.02, 0.001, Rate(1.25e6))
    read = parse_conditions(text)
    assert read == expected
    assert all(getattr(read, field.name) != getattr(CLEAR, field.name) for field in fields(Conditions))


def test_no_text_is_a_clear_link() -> None:
    assert parse_conditions("") == CLEAR


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("speed=1", "expected one of delay"),
        ("delay", "expected one of delay"),
        ("delay=40", "like 40ms"),
        ("delay=soon ms", "like 40ms"),
        ("delay=nans", "like 40ms"),
        ("delay=-1ms", "not negative"),
        ("loss=120%", "0 to 1"),
        ("loss=lots", "like 5%"),
        ("bursts=1%", "like 5%"),
        ("rate=10", "like 10mbit"),
        ("rate=0mbit", "positive"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_conditions(text)
