"""Split speed from distance: the fit finds what made the points, and explains the published ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.plan_points import PUBLISHED_DRAFT, PUBLISHED_PLAIN, THREE_NODES, fit_for
from llm.plan_speed import Fit, NothingToFit, Point, Speed, fit, predict


def made_of(k: float, stage_ms: float, alone_ms: float) -> list[Point]:
    return [
        Point("made", stages, rtt, alone_ms, alone_ms + (stages - 1) * (k * rtt + stage_ms))
        for stages in (2, 3)
        for rtt in (0.0, 5.0, 20.0)
    ]


@given(st.floats(0.5, 6), st.floats(0, 10), st.floats(1, 100))
def test_fit_finds_round_trips_and_stage_cost(k: float, stage_ms: float, alone_ms: float) -> None:
    found = fit(made_of(k, stage_ms, alone_ms))
    assert found.round_trips == pytest.approx(k, rel=1e-6)
    assert found.stage_ms == pytest.approx(stage_ms, rel=1e-6, abs=1e-6)
    assert found.least == pytest.approx(found.most, rel=1e-6)


def test_stage_cost_is_nothing_where_no_point_tells_it_from_the_time_alone() -> None:
    points = [point for point in made_of(2.0, 0.0, 30.0) if point.rtt_ms]
    assert fit(points).stage_ms == 0.0
    assert fit(points).round_trips == pytest.approx(2.0)


def test_without_distance_there_is_nothing_to_fit() -> None:
    with pytest.raises(NothingToFit, match="some distance"):
        fit([Point("near", 2, 0, 10, 11), Point("alone", 1, 20, 10, 10)])


def test_time_per_token_adds_each_workers_distance() -> None:
    assert Fit(2.0, 1.5, 3.0, 0.5).token_ms(10.0, [5.0, 20.0]) == 10 + 2 * 25 + 2 * 0.5
    assert Fit(2.0, 1.5, 3.0, 0.5).token_ms(10.0, []) == 10.0


def test_interval_spans_what_is_unsure_of_speed_and_of_round_trips() -> None:
    found = predict(Fit(2.0, 1.0, 3.0, 0.0), Speed(50.0, 100.0, 200.0), [10.0])
    assert found.low == pytest.approx(1000 / (20 + 30))
    assert found.likely == pytest.approx(1000 / (10 + 20))
    assert found.high == pytest.approx(1000 / (5 + 10))


# Published figures


@pytest.mark.parametrize(("rtt_ms", "published"), THREE_NODES)
def test_three_published_nodes_are_explained(rtt_ms: float, published: float) -> None:
    others = [point for point in PUBLISHED_PLAIN if point.rtt_ms != rtt_ms]
    # Predicted from the other two distances, not from itself.
    predicted = 1000 / fit(others).token_ms(1000 / 60.2, [rtt_ms] * 2)
    assert predicted == pytest.approx(published, rel=0.1)
    spread = predict(fit_for(has_draft=False), Speed(60.2, 60.2, 60.2), [rtt_ms] * 2)
    assert 0.98 * spread.low <= published <= 1.02 * spread.high


def test_published_round_trips_a_stage() -> None:
    assert fit(PUBLISHED_PLAIN).round_trips == pytest.approx(1.6, abs=0.1)
    code = fit([PUBLISHED_DRAFT[0]])
    assert code.round_trips == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(("alone", "published"), [(19, 6), (19, 9), (25, 13)])
def test_published_model_of_32b_at_20_ms_lies_in_the_interval(alone: float, published: float) -> None:
    found = predict(fit_for(has_draft=True), Speed(alone, alone, alone), [20.0])
    assert 0.99 * found.low <= published <= 1.01 * found.high
    assert found.likely < 0.6 * alone
