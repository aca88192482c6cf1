from __future__ import annotations

import pytest

from llm.sessions.drafter import NGRAM
from llm.sessions.drafting import (
    LEAST_SPEEDUP,
    LOSSES,
    MOST_TOKENS,
    PROBE_BLOCKS,
    PROBE_EVERY_S,
    BatchTimes,
    Costs,
    Drafting,
    State,
    break_even_round_trip_s,
    expected_accepted,
    typical,
)
from llm.sessions.proposals import SEEN_ANEW, Proposals


def costs(round_trip_s: float = 0.0, *, plain_s: float = 0.0419, block_s: float = 0.0873) -> Costs:
    """By default what the published scorecard has on its hardware."""
    return Costs(plain_s, lambda count: block_s, round_trip_s=round_trip_s)


def test_the_published_constants_break_even_at_104_ms() -> None:
    assert break_even_round_trip_s(4.57, 0.0419, 0.0873) == pytest.approx(0.104, abs=0.002)
    # And there the speed-up is 1, whatever was said of one on top of the other.
    assert costs(0.1042).speedup(3.57, 8) == pytest.approx(1.0, abs=0.01)
    assert costs().speedup(3.57, 8) == pytest.approx(2.19, abs=0.01)  # published: 2.20 co-located


def test_a_fast_target_leaves_nothing_to_hide_a_round_trip_behind() -> None:
    controller = Drafting()
    choice = controller.choose(costs(0.05, plain_s=0.002, block_s=0.006), now=0)
    assert (choice.count, choice.state) == (0, State.NEVER)
    assert "even drafts that are always right" in choice.reason


def test_it_drafts_while_that_wins_stops_when_it_loses_and_looks_again_with_two_blocks() -> None:
    near, now = costs(0.01), 0.0
    controller = Drafting()
    assert controller.choose(near, now).count == controller.most
    blocks = 0
    while controller.choose(near, now).count:
        controller.note(8, 0, near, now)
        blocks += 1
    assert LOSSES <= blocks < 20
    assert controller.state is State.OFF
    assert controller.speedup <= LEAST_SPEEDUP
    now = PROBE_EVERY_S
    for _ in range(PROBE_BLOCKS):
        assert controller.choose(near, now).count > 0
        controller.note(8, 0, near, now)
    assert controller.choose(near, now).count == 0
    now = 2 * PROBE_EVERY_S
    assert controller.choose(near, now).count == 0, "a probe that loses doubles the rest"
    now = 3 * PROBE_EVERY_S
    for _ in range(PROBE_BLOCKS):
        assert controller.choose(near, now).count > 0
        controller.note(8, 8, near, now)
    assert controller.choose(near, now).state is State.ON


def test_where_others_drafts_fell_a_session_begins_without() -> None:
    assert Drafting.after(0.05).choose(costs(), 0).count == 0
    assert Drafting.after(0.95).choose(costs(), 0).count == MOST_TOKENS


def test_a_target_that_becomes_slow_is_not_lost_for_ever() -> None:
    controller = Drafting()
    assert controller.choose(costs(5.0), 0).state is State.NEVER
    assert controller.choose(costs(0.0), 1).state is State.OFF
    assert controller.choose(costs(0.0), 1 + PROBE_EVERY_S).count > 0


def test_the_best_count_is_the_one_whose_last_token_still_pays() -> None:
    controller = Drafting()
    steep = Costs(1.0, lambda count: 1.0 + 0.3 * count)
    chosen = controller.choose(steep, 0).count
    values = [steep.speedup(expected_accepted(controller.chance, count), count) for count in range(1, 9)]
    assert values[chosen - 1] == max(values)
    assert 1 <= chosen < 8


def test_the_first_blocks_of_an_unknown_drafter_are_a_probe() -> None:
    for stands, after in ((0, State.OFF), (8, State.ON)):
        controller = Drafting.unproven()
        for _ in range(PROBE_BLOCKS):
            assert controller.choose(costs(0.04), 0).count > 0
            controller.note(8, stands, costs(0.04), 0)
        assert controller.state is after


def test_a_probe_is_long_enough_to_show_that_long_blocks_pay() -> None:
    # As measured: a token 3.5 ms, eight drafted ones 13 ms to verify and 1 to draft, 2 ms there and back.
    quick = Costs(0.0035, lambda count: 0.0035 + 0.0012 * count, lambda count: 0.00014 * count, 0.002)
    controller = Drafting.unproven()
    assert controller.best(quick) < MOST_TOKENS
    for _ in range(PROBE_BLOCKS):
        count = controller.choose(quick, 0).count
        controller.note(count, count, quick, 0)
    choice = controller.choose(quick, 0)
    assert (choice.state, choice.count) == (State.ON, MOST_TOKENS)
    assert choice.speedup > 1.5


@pytest.mark.parametrize("chance", [0.05, 0.98])
def test_whoever_is_seen_anew_drafts_whatever_others_drafts_were_worth(chance: float) -> None:
    quick = Costs(0.0035, lambda count: 0.0035 + 0.0012 * count, lambda count: 0.00014 * count, 0.002)
    proposals = Proposals(vocabulary=1000, chances={NGRAM.name: chance})
    for opened in range(1, 2 * SEEN_ANEW + 1):
        controller = proposals.controller(NGRAM)
        anew = opened % SEEN_ANEW == 0
        assert (controller.choose(quick, 0).count > 0) == (anew or chance > 0.5)
        for _ in range(PROBE_BLOCKS if anew else 0):
            controller.note(8, 8, quick, 0)
        assert controller.state is (State.ON if anew or chance > 0.5 else State.OFF)


def test_drafts_that_come_too_late_are_losses() -> None:
    controller = Drafting.after(0.95)
    assert controller.choose(costs(), 0).state is State.ON
    for _ in range(LOSSES):
        assert controller.state is State.ON
        controller.miss(0)
    assert controller.choose(costs(), 0).count == 0


def test_what_was_measured_of_one_size_is_not_bent_by_others() -> None:
    times = BatchTimes()
    for _ in range(5):
        times.note(512, 5.0)
        times.note(1, 0.044)
        times.note(9, 0.076)
    assert times.measured(1) == pytest.approx(0.044)
    assert times.measured(9) == pytest.approx(0.076)
    assert times.measured(5) == times.expect(5)


def test_a_batch_that_lost_its_core_for_long_hardly_changes_what_is_typical() -> None:
    assert typical([0.010] * 32 + [5.0]) == pytest.approx(0.0109, abs=1e-4)
    # What happens often is no freak: it is what blocks cost.
    assert typical([0.010] * 20 + [0.030] * 10) == pytest.approx(0.0167, abs=1e-4)
    times = BatchTimes()
    for _ in range(40):
        times.note(1, 0.010)
        times.note(9, 0.001)
    assert times.measured(9) == pytest.approx(0.010), "no batch is faster for having more rows"


def test_batch_times_are_a_line_that_never_falls() -> None:
    times = BatchTimes()
    assert times.expect(5) == times.expect(50)
    for rows in (1, 2, 4, 8) * 10:
        times.note(rows, 0.010 + 0.001 * rows)
    assert times.expect(5) == pytest.approx(0.015, rel=0.01)
    falling = BatchTimes()
    for rows in (1, 8) * 10:
        falling.note(rows, 0.02 - 0.001 * rows)
    assert falling.expect(8) == falling.expect(1) > 0
