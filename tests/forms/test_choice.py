"""Where a call goes: what is predicted, who is well, what carrying takes, and how long the queue is."""

from __future__ import annotations

import pytest

from forms.backlog import Backlog
from forms.choice import NO_WAY, Choice, Option, Shape, Way, predict, rank
from forms.cost import Cost, Line
from forms.health import DOWN_S, OK_S, HealthBook
from forms.ways import FORGOTTEN_S, Carried, WayBook

FORM = "cuda-radix-sort"


def shape(work: float, bytes_in: int = 0, bytes_out: int = 0) -> Shape:
    return Shape(FORM, False, work, bytes_in, bytes_out)


def cost(base_s: float, per_work_s: float, cold_s: float = 0.0) -> Cost:
    return Cost(FORM, False, "cpu", Line(base_s, per_work_s), cold_s)


HERE = Option("here", cost(0.0, 1e-6))
AWAY = Option("away", cost(0.01, 1e-7), Way(0.004, 1e-8, 1e-8))


def test_a_small_call_stays_and_a_large_one_goes() -> None:
    assert [choice.target for choice in rank(shape(1000), [AWAY, HERE])] == ["here", "away"]
    assert [choice.target for choice in rank(shape(1_000_000), [AWAY, HERE])] == ["away", "here"]


def test_a_prediction_is_way_queue_cost_and_cold_start() -> None:
    option = Option("away", cost(0.1, 1e-3, cold_s=2.0), Way(0.01, 1e-6, 2e-6), queue_s=0.5)
    assert predict(shape(100, 1000, 2000), option) == pytest.approx(0.01 + 0.001 + 0.004 + 0.5 + 0.1 + 0.1)
    cold = Option("away", option.cost, option.way, 0.5, is_cold=True)
    assert predict(shape(100, 1000, 2000), cold) == pytest.approx(2.715)


def test_what_must_be_carried_far_stays() -> None:
    assert rank(shape(1_000_000, bytes_in=200_000_000), [AWAY, HERE])[0].target == "here"


def test_a_queue_sends_the_call_elsewhere() -> None:
    assert rank(shape(1000), [AWAY, Option("here", HERE.cost, queue_s=1.0)])[0].target == "away"


def test_ties_go_to_more_free_memory() -> None:
    small = Option("small", cost(0.1, 0), vram_free_bytes=8 << 30)
    large = Option("large", cost(0.101, 0), vram_free_bytes=24 << 30)
    much_slower = Option("slow", cost(0.2, 0), vram_free_bytes=80 << 30)
    assert [one.target for one in rank(shape(1), [small, large, much_slower])] == ["large", "small", "slow"]


def test_who_is_not_known_comes_last() -> None:
    options = [Option("new", None, vram_free_bytes=1), Option("newer", None, vram_free_bytes=2), AWAY]
    assert rank(shape(1), options)[1:] == [Choice("newer", None), Choice("new", None)]


def test_health_holds_for_a_while() -> None:
    book = HealthBook[str]()
    assert book.is_due("a", 0.0)
    book.note_ok("a", 0.0)
    book.note_down("b", 0.0)
    assert not book.is_due("a", OK_S - 0.1)
    assert book.is_due("a", OK_S)
    assert book.usable(["a", "b"], OK_S) == ["a"]
    assert book.usable(["a", "b"], DOWN_S) == ["a", "b"]
    assert book.is_due("b", DOWN_S)


def test_when_all_are_down_they_take_turns() -> None:
    book = HealthBook[str]()
    for target in "abc":
        book.note_down(target, 0.0)
    first = [book.usable(["a", "b", "c"], 1.0)[0] for _ in range(6)]
    assert sorted(first[:3]) == ["a", "b", "c"]
    assert first[:3] == first[3:]


SMALL, LARGE = shape(1, 30_000, 30_000), shape(1, 10_000_000, 10_000_000)


def test_a_way_is_learnt_from_what_was_carried_and_forgotten_when_unused() -> None:
    ways = WayBook[str]()
    usual = ways.way("node", SMALL, 0.0, 0.010)
    assert usual.round_trip_s == 0.010
    for _ in range(200):
        for size in (1000, 30_000, 1 << 20):
            ways.learn("node", Carried(size, 0.002 + size / 100e6, size, size / 50e6), 1.0, 0.001)
    learnt = ways.way("node", SMALL, 2.0)
    assert learnt.up_s_per_byte == pytest.approx(1 / 100e6, rel=0.1)
    assert learnt.down_s_per_byte == pytest.approx(1 / 50e6, rel=0.1)
    assert learnt.round_trip_s == pytest.approx(0.002, rel=0.05)
    assert ways.way("node", SMALL, 2.0 + FORGOTTEN_S, 0.010) == usual


def test_what_jitter_hides_teaches_little() -> None:
    ways = WayBook[str]()
    before = ways.way("node", SMALL, 0.0)
    for _ in range(5):
        ways.learn("node", Carried(20_000, before.round_trip_s, 20_000, 0.0), 0.0)
    after = ways.way("node", SMALL, 0.0)
    assert after.up_s_per_byte > 0.7 * before.up_s_per_byte
    assert after.round_trip_s == before.round_trip_s


def test_calls_that_take_less_than_the_round_trip_shorten_it_and_say_nothing_of_large_ones() -> None:
    ways = WayBook[str]()
    for _ in range(40):
        ways.learn("node", Carried(1 << 24, 0.001 + (1 << 24) / 200e6, 100, 0.0), 0.0, 0.010)
    for _ in range(200):
        ways.learn("node", Carried(100_000, 0.001 + 100_000 / 200e6, 100, 0.0), 0.0)
    learnt = ways.way("node", LARGE, 0.0)
    assert learnt.up_s_per_byte == pytest.approx(1 / 200e6, rel=0.2)
    assert learnt.round_trip_s == pytest.approx(0.0015, rel=0.2)


def test_small_calls_and_bulk_go_different_ways() -> None:
    ways = WayBook[str]()
    bulk = ways.way("node", LARGE, 0.0)
    assert bulk.up_s_per_byte < ways.way("node", SMALL, 0.0).up_s_per_byte, "a lane is the faster of the two"
    for _ in range(200):
        ways.learn("node", Carried(30_000, 0.5, 30_000, 0.5), 0.0)
    assert ways.way("node", LARGE, 0.0) == bulk
    assert ways.way("node", SMALL, 0.0).carrying_s(SMALL) == pytest.approx(1.0, rel=0.2)


def test_a_slow_small_call_does_not_make_large_ones_look_hopeless() -> None:
    ways = WayBook[str]()
    ways.learn("node", Carried(100, 0.2, 100, 0.0), 0.0)
    almost_bulk = shape(1, 30_000, 100)
    assert ways.way("node", almost_bulk, 0.0).carrying_s(almost_bulk) < 0.3
    assert NO_WAY.carrying_s(LARGE) == 0.0


def test_a_backlog_shrinks_as_its_first_call_goes_on() -> None:
    backlog = Backlog()
    assert backlog.seconds(5.0) == 0.0
    first = backlog.add(2.0, 5.0)
    second = backlog.add(3.0, 5.5)
    assert backlog.seconds(6.0) == pytest.approx(4.0)
    assert backlog.seconds(9.0) == pytest.approx(3.0)
    backlog.remove(first, 9.0)
    assert backlog.seconds(10.0) == pytest.approx(2.0)
    backlog.remove(second, 10.0)
    backlog.remove(second, 10.0)
    assert (backlog.seconds(10.0), len(backlog)) == (0.0, 0)
