"""How calls of one size differ from what a place says of all, and that one odd call says little."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from forms.choice import Option, Shape, predict, rank
from forms.cost import CostBook, Spent
from forms.habits import FIRST_WARMTH, FORGOTTEN_S, MOST_KEPT, MOST_OFF, WARMTH, HabitBook

SORT = Shape("cuda-radix-sort", False, 4e6, 32_000_000, 32_000_000)


def told(ratio: float, times: int) -> HabitBook[str]:
    book = HabitBook[str]()
    for number in range(times):
        book.learn("here", SORT, ratio, float(number))
    return book


def test_what_calls_of_a_size_take_is_expected_of_the_next() -> None:
    assert told(1.4, 30).factor("here", SORT, 30.0) == pytest.approx(1.4, rel=0.02)
    assert told(0.7, 30).factor("here", replace(SORT, work=3e6), 30.0) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize(
    "other",
    [
        replace(SORT, work=1e6),
        replace(SORT, is_text=True),
        replace(SORT, form="cuda-shake-fanout"),
        replace(SORT, bytes_in=SORT.bytes_in // 50),
    ],
)
def test_it_says_nothing_of_other_calls_nor_of_other_places(other: Shape) -> None:
    book = told(1.4, 12)
    assert book.factor("here", other, 12.0) == 1.0
    assert book.factor("there", SORT, 12.0) == 1.0


@pytest.mark.parametrize("ratio", [1000.0, 0.0])
def test_one_odd_call_moves_it_little(ratio: float) -> None:
    factor = told(ratio, 1).factor("here", SORT, 1.0)
    assert pytest.approx(min(factor, 1 / factor)) == 1 / MOST_OFF**FIRST_WARMTH
    book = told(1.0, 30)
    book.learn("here", SORT, ratio, 30.0)
    factor = book.factor("here", SORT, 30.0)
    assert pytest.approx(min(factor, 1 / factor)) == 1 / MOST_OFF**WARMTH


def test_the_first_calls_count_for_more() -> None:
    assert told(1.4, 4).factor("here", SORT, 4.0) > 1.3


def test_it_is_forgotten() -> None:
    assert told(1.4, 3).factor("here", SORT, 3.0 + FORGOTTEN_S) == 1.0


def test_what_was_told_longest_ago_goes_first() -> None:
    book = told(1.4, 3)
    for number in range(MOST_KEPT):
        if number == MOST_KEPT // 2:
            book.learn("here", SORT, 1.4, 3.0)
        book.learn(f"place {number}", SORT, 2.0, 3.0)
    assert book.factor("place 0", SORT, 3.0) == 1.0
    assert book.factor("here", SORT, 3.0) > 1.0


FORM = "cuda-radix-sort"
SIZES = (1, 1000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000, 4_000_000)
SLOWER = 2.0
"""How many times as long the place that is asked takes; the other is `CARRYING_S` away for each number."""
CARRYING_S = 30e-9


def computing_s(size: int) -> float:
    """As a sort does: each number costs more once the caches are full."""
    return 0.0004 + size * (20e-9 if size < 200_000 else 30e-9 if size < 2_000_000 else 45e-9)


def true_s(place: str, size: int) -> float:
    return SLOWER * computing_s(size) if place == "here" else computing_s(size) + 0.002 + CARRYING_S * size


def lost(seed: int, *, with_habits: bool, rounds: int = 8) -> float:
    """What choices of the smaller prediction lost beside the best ones, as a share of these."""
    dice, habits, books = Random(seed), HabitBook[str](), {"here": CostBook(), "there": CostBook()}
    spent_s = best_s = 0.0
    for number in range(rounds * len(SIZES)):
        size = SIZES[number % len(SIZES)]
        shape = Shape(FORM, False, float(size), 8 * size, 8 * size)
        options = [Option(place, books[place].cost(FORM, is_text=False)) for place in books]
        if with_habits:
            options = [replace(one, stretch=habits.factor(one.target, shape, number)) for one in options]
        chosen = rank(shape, options)[0].target
        if number >= rounds * len(SIZES) // 2:
            took = {place: true_s(place, size) for place in books}
            spent_s, best_s = spent_s + took[chosen] / min(took.values()), best_s + 1
        for option in options:  # as each place is asked now and then
            took_s = true_s(option.target, size) * math.exp(dice.gauss(0, 0.05))
            if (said_s := predict(shape, replace(option, stretch=1.0))) is not None:
                habits.learn(option.target, shape, took_s / said_s, number)
            books[option.target].note(Spent(FORM, False, "cpu", float(size), took_s, 8 * size))
    return spent_s / best_s - 1


def test_choices_between_costs_that_are_no_lines_lose_less() -> None:
    lines, habits = (sum(lost(seed, with_habits=known) for seed in range(10)) / 10 for known in (False, True))
    assert lines > 0.01, "this cost would be a line"
    assert habits < lines / 2
