"""What a node learns of its calls, and what it would say the next one takes."""

from __future__ import annotations

import random

import pytest

from forms.backend import Backend
from forms.computed import Computed
from forms.cost import CostBook, Fit, Line

SHAKE = "cuda-shake-fanout"


def done(work: float, seconds: float, *, is_cold: bool = False, backend: Backend | None = Backend.CPU) -> Computed:
    return Computed(b"", SHAKE, backend, work, seconds, is_cold)


def line_of(fit: Fit) -> Line:
    assert fit.line is not None
    return fit.line


def test_two_sizes_make_a_line() -> None:
    fit = Fit()
    assert fit.line is None
    fit.learn(100, 0.002)
    fit.learn(1_000_000, 1.001)
    assert line_of(fit).base_s == pytest.approx(0.0019, rel=0.01)
    assert line_of(fit).at(500_000) == pytest.approx(0.5014, rel=0.01)


def test_calls_of_one_size_are_put_down_to_the_work() -> None:
    line = line_of(Fit([(1000, 0.5)]))
    assert line.base_s == 0.0
    assert line.per_work_s == pytest.approx(0.0005)
    assert line_of(Fit([(0, 0.5)])) == Line(0.5, 0.0)


@pytest.mark.parametrize("points", [[(10, 1.0), (1000, 0.5)], [(10, 0.001), (1000, 1.0)], [(1, 1.0), (2, 4.0)]])
def test_neither_part_is_ever_negative(points: list[tuple[float, float]]) -> None:
    line = line_of(Fit(points))
    assert line.base_s >= 0
    assert line.per_work_s >= 0


def test_it_follows_a_node_that_became_slower() -> None:
    fit = Fit([(10, 0.001), (10_000, 0.1)])
    for _ in range(60):
        fit.learn(10, 0.002)
        fit.learn(10_000, 0.2)
    assert line_of(fit).at(10_000) == pytest.approx(0.2, rel=0.05)


def test_a_thousand_small_calls_do_not_make_it_forget_a_large_one() -> None:
    fit = Fit([(10, 0.001), (1_000_000, 1.0)])
    for _ in range(1000):
        fit.learn(10, 0.001)
    assert line_of(fit).at(1_000_000) == pytest.approx(1.0, rel=0.02)


def test_noise_is_averaged() -> None:
    dice = random.Random(3)
    fit = Fit()
    for _ in range(300):
        work = 10 ** dice.uniform(1, 6)
        fit.learn(work, (0.003 + 2e-6 * work) * dice.uniform(0.8, 1.25))
    assert line_of(fit).base_s == pytest.approx(0.003, rel=0.2)
    assert line_of(fit).per_work_s == pytest.approx(2e-6, rel=0.2)


def test_a_cold_call_tells_of_the_start_only() -> None:
    book = CostBook()
    book.learn(done(10, 1.5, is_cold=True), 100, is_text=False)
    assert book.cost(SHAKE, is_text=False) is None
    book.learn(done(10, 0.001), 100, is_text=False)
    book.learn(done(1000, 0.1), 100, is_text=False)
    book.learn(done(1000, 1.3, is_cold=True), 100, is_text=False)
    cost = book.cost(SHAKE, is_text=False)
    assert cost is not None
    assert cost.line.at(1000) == pytest.approx(0.1, rel=0.01)
    assert 1.2 < cost.cold_s < 1.5


def test_predictions_and_actuals_are_kept_and_their_error_is_shown() -> None:
    book = CostBook()
    for _ in range(10):
        book.learn(done(1000, 0.1), 100, is_text=False)
    assert book.outcomes(SHAKE, is_text=False) == (), "one size says nothing of others"
    for _ in range(10):
        book.learn(done(4000, 0.4), 100, is_text=False)
    book.learn(done(1000, 0.2), 100, is_text=False)
    last = book.outcomes(SHAKE, is_text=False)[-1]
    assert last.predicted_s == pytest.approx(0.1)
    assert last.actual_s == 0.2
    assert last.error == pytest.approx(0.5)
    cost = book.cost(SHAKE, is_text=False)
    assert cost is not None
    assert cost.error == pytest.approx(0.0, abs=1e-9)
    assert cost.calls == 21


def test_text_and_frames_and_backends_are_told_apart() -> None:
    book = CostBook()
    book.learn(done(1000, 0.1), 100, is_text=False)
    book.learn(done(1000, 0.4), 2000, is_text=True)
    book.learn(done(1000, 0.01, backend=Backend.CUDA), 100, is_text=False)
    book.learn(done(0, 9.0, backend=None), 100, is_text=False)
    costs = {(cost.is_text, cost.backend): cost.line.at(1000) for cost in book.current}
    assert costs == {(False, "cuda"): pytest.approx(0.01), (True, "cpu"): pytest.approx(0.4)}
    assert len(book.all) == 3
    assert book.work_of_bytes(SHAKE, 4000, is_text=True) == pytest.approx(2000)
    assert book.work_of_bytes("no-such-form", 4000, is_text=True) is None
