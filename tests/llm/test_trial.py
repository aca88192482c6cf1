"""Whether drafts pay: what is compared, when an engine is to be started the other way, and when it is left alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from llm.engines.comparison import LEAST_PAIRS, LEAST_TOKENS, MOST_PAIRS, MOST_ROUND_ANSWERS, Comparison, Sample
from llm.engines.drafts import DraftSwitch
from llm.engines.timings import TimingsReader
from llm.engines.trial import LATEST, LONGEST_LOAD_S, RETRY_S, STEADY_S, Trial

TOKENS = 256
MOST_ANSWERS = 2000


def answer(step_s: float, *, share: float | None = None) -> Sample:
    """Of 256 tokens whose steps took so long. share: of 100 drafted tokens that stood, None without drafts."""
    accepted = round(100 * share) if share is not None else 0
    return Sample(TOKENS, step_s * (TOKENS - accepted), 100 if share is not None else 0, accepted)


def give(trial: Trial, plain_s: float, drafting_s: float, *, share: float = 0.6, now: float = 0.0) -> int:
    """Answers as the trial wants them, until it has decided: so many starts of the engine it took."""
    wanted, starts = trial.wants_drafts(now), 0
    for _ in range(MOST_ANSWERS):
        one = answer(drafting_s, share=share) if wanted else answer(plain_s)
        trial.note(one, is_drafting=wanted, now=now)
        if trial.state != "tried":
            return starts + (trial.wants_drafts(now) is not wanted)
        starts += trial.wants_drafts(now) is not wanted
        wanted = trial.wants_drafts(now)
    raise AssertionError(trial.words())


def compared(speedup: float, share: float = 0.6) -> Trial:
    """One that found drafts to be so many times as fast: a step with them takes as much longer as they give less."""
    trial = Trial(load_s=1.0)
    gain = TOKENS / (TOKENS - 100 * share)
    give(trial, 0.01, 0.01 * gain / speedup, share=share)
    return trial


def test_it_drafts_first_then_not_and_keeps_what_was_faster() -> None:
    trial = Trial(load_s=1.0)
    assert trial.wants_drafts(0.0)
    assert trial.words() == "being compared: 0 answers with drafts so far"
    starts = give(trial, 0.01, 0.01)
    assert (trial.state, trial.wants_drafts(0.0)) == ("on", True)
    assert trial.words() == "on: 1.31 times as fast with them, 60% of drafted tokens stand"
    # With, without, without, with, with, without: and back.
    assert starts == LEAST_PAIRS + 1


@pytest.mark.parametrize(("speedup", "state"), [(0.8, "off"), (1.02, "off"), (1.1, "on")])
def test_drafts_have_to_be_clearly_faster(speedup: float, state: str) -> None:
    trial = compared(speedup)
    assert trial.state == state
    assert trial.speedup == pytest.approx(speedup)


def test_it_stays_on_until_it_would_be_slower() -> None:
    trial = compared(1.1, share=0.6)

    def give_on(share: float) -> None:
        for _ in range(LATEST):
            trial.note(answer(0.01, share=share), is_drafting=True, now=0.0)

    # 256 tokens in 206 steps where it was 196: less than what turned it on, and still no loss.
    give_on(0.5)
    assert trial.words().startswith("on")
    give_on(0.1)
    assert trial.words().startswith("off")
    assert not trial.wants_drafts(0.0)


def test_answers_of_a_moment_are_compared_in_greater_number() -> None:
    comparison, wanted = Comparison(), []
    for _ in range(MOST_ROUND_ANSWERS):
        wanted.append(comparison.is_drafting)
        comparison.note(answer(1e-6, share=0.6))
    assert all(wanted)
    assert not comparison.is_drafting


def test_rounds_last_longer_where_starting_takes_long() -> None:
    comparison, wanted = Comparison(load_s=40.0), []
    for _ in range(7):
        wanted.append(comparison.is_drafting)
        comparison.note(answer(0.02, share=0.6))  # of nearly four seconds each
    assert wanted == [True] * 6 + [False]
    assert (comparison.most_pairs, Comparison(load_s=1.0).most_pairs) == (LEAST_PAIRS, MOST_PAIRS)


def test_off_is_tried_again_later_and_later() -> None:
    trial = compared(0.8)
    assert not trial.wants_drafts(RETRY_S - 1)
    assert trial.wants_drafts(RETRY_S)
    give(trial, 0.01, 0.02, now=RETRY_S)
    assert trial.words().startswith("off")
    assert [trial.wants_drafts(now) for now in (3 * RETRY_S - 1, 3 * RETRY_S)] == [False, True]


def test_what_flaps_is_tried_ever_more_seldom_and_what_was_on_for_long_is_not() -> None:
    trial = compared(0.8)
    assert trial.wants_drafts(RETRY_S)
    give(trial, 0.01, 0.0115, now=RETRY_S)
    assert trial.words().startswith("on: 1.14 times")

    def lose(now: float) -> None:
        for _ in range(LATEST):
            trial.note(answer(0.01, share=0.06), is_drafting=True, now=now)

    lose(RETRY_S)
    assert [trial.wants_drafts(now) for now in (3 * RETRY_S - 1, 3 * RETRY_S)] == [False, True]
    give(trial, 0.01, 0.0115, now=3 * RETRY_S)
    later = 3 * RETRY_S + STEADY_S + 1
    lose(later)
    assert [trial.wants_drafts(later + wait_s) for wait_s in (RETRY_S - 1, RETRY_S)] == [False, True]


def test_a_model_that_takes_long_to_start_is_judged_by_what_stands() -> None:
    for share, state in ((0.6, "on"), (0.0, "off")):
        trial = Trial(load_s=LONGEST_LOAD_S + 1)
        for _ in range(MOST_ROUND_ANSWERS):
            trial.note(answer(0.01, share=share), is_drafting=True, now=0.0)
        assert trial.state == state
        assert f"{share:.0%} of drafted tokens stand" in trial.words()


def test_drafts_of_which_nothing_stands_are_off_at_once() -> None:
    trial = Trial(load_s=1.0)
    states = []
    for _ in range(2):
        states.append(trial.state)
        trial.note(answer(0.01, share=0.0), is_drafting=True, now=0.0)
    assert [*states, trial.state] == ["tried", "tried", "off"]


def test_short_answers_say_nothing() -> None:
    trial = Trial()
    for _ in range(MOST_ANSWERS):
        trial.note(Sample(LEAST_TOKENS - 1, 1.0, 10, 5), is_drafting=True, now=0.0)
    assert trial.wants_drafts(0.0)
    assert "0 answers with drafts" in trial.words()


def test_an_answer_from_before_the_change_does_not_count_as_one_after_it() -> None:
    trial = Trial(load_s=1.0)
    while trial.wants_drafts(0.0):
        trial.note(answer(0.01, share=0.6), is_drafting=True, now=0.0)
    for _ in range(MOST_ROUND_ANSWERS):
        trial.note(answer(0.01, share=0.6), is_drafting=True, now=0.0)
    assert not trial.wants_drafts(0.0)


def test_a_drafter_that_llama_server_dies_of_is_given_up() -> None:
    switch = DraftSwitch("own-heads", is_fixed=False)
    drafting = []
    for _ in range(2):
        drafting.append(switch.is_drafting)
        switch.died()
    assert [*drafting, switch.is_drafting] == [True, True, False]
    assert not switch.turn(1e9)
    assert switch.words().endswith("off: with them llama-server ended by itself 2 times")
    now = switch.now()
    assert now is not None
    assert now.state == "off"


def test_a_death_between_answers_with_drafts_is_not_their_doing() -> None:
    switch = DraftSwitch("own-heads", is_fixed=False)
    for _ in range(3):
        switch.died()
        switch.trial.note(Sample(4, 0.1, 3, 3), is_drafting=True, now=0.0)
    assert switch.is_drafting


Slowness = Callable[[float], float]


def replayed(true_speedup: float, slowness: Slowness, seed: int) -> Trial:
    """A trial on a host of which others take so much at each time, with answers that differ by a tenth."""
    dice, now, trial = random.Random(seed), 0.0, Trial(load_s=0.5)
    gain = TOKENS / (TOKENS - 60)
    for _ in range(MOST_ANSWERS):
        wanted = trial.wants_drafts(now)
        step_s = 0.002 * (gain / true_speedup if wanted else 1.0) * dice.uniform(0.95, 1.05)
        one = answer(step_s * slowness(now), share=0.6 if wanted else None)
        now += one.seconds + (trial.load_s if trial.wants_drafts(now) is not wanted else 0.0)
        trial.note(one, is_drafting=wanted, now=now)
        if trial.state != "tried":
            return trial
    raise AssertionError(trial.words())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("arrives_s", [0.5, 2.0, 3.5, 5.0])
@pytest.mark.parametrize(("speedup", "state"), [(1.4, "on"), (0.7, "off")])
def test_load_that_comes_or_goes_in_the_middle_deceives_nobody(
    speedup: float, state: str, arrives_s: float, seed: int
) -> None:
    comes: Slowness = lambda now: 3.0 if now > arrives_s else 1.0  # noqa: E731
    goes: Slowness = lambda now: 1.0 if now > arrives_s else 3.0  # noqa: E731
    assert replayed(speedup, comes, seed).state == state
    assert replayed(speedup, goes, seed).state == state


def test_what_cannot_be_told_stays_off() -> None:
    """Others come and go all the time, and what they take hides what drafts give."""
    trials = [replayed(1.0, lambda now: 4.0 if int(now / 1.7) % 2 else 1.0, seed) for seed in range(20)]
    assert sum(one.state == "off" for one in trials) >= 18
    assert any("is unclear on this host" in one.words() for one in trials)


def test_one_comparison_starts_the_engine_a_stated_number_of_times() -> None:
    comparison = Comparison()
    changes, wanted = 0, True
    for turn in range(MOST_ANSWERS):
        # As unclear as can be: pairs that say one thing and the other.
        factor = 2.0 if (len(comparison.rounds) - 1) // 2 % 2 else 0.5
        comparison.note(answer(0.01 * factor, share=0.6) if wanted else answer(0.01))
        changes += comparison.is_drafting is not wanted
        wanted = comparison.is_drafting
        if comparison.verdict() is not None:
            assert comparison.verdict() == "unclear", turn
            break
    assert changes <= MOST_PAIRS


def test_the_work_of_the_engines_cpus_counts_where_it_is_known() -> None:
    told = b'{"timings":{"predicted_n":40,"prompt_ms":100.0,"predicted_ms":300.0}}'
    reader = TimingsReader(is_alone=True, cpu_s=7.0)
    reader.feed(told)
    # Of two seconds of work three quarters were decoding's, however long that took.
    assert reader.told(9.0) == Sample(40, 1.5)
    assert reader.told(None) == Sample(40, 0.0)


def test_timings_are_read_from_the_end_however_it_is_cut() -> None:
    said = b'data: {"choices":[]}\n\n' * 300 + (
        b'data: {"usage":{},"timings":{"predicted_n":40,"predicted_ms":500.0,"draft_n":30,"draft_n_accepted":20}}\n\n'
        b"data: [DONE]\n\n"
    )
    reader = TimingsReader(is_alone=True)
    for start in range(0, len(said), 7):
        reader.feed(said[start : start + 7])
    assert reader.told() == Sample(40, 0.5, 30, 20)


@pytest.mark.parametrize("said", [b"", b"{}", b'"timings": {"predicted_n": 4}', b'"timings": {"predicted_ms": "x"}'])
def test_an_answer_without_timings_is_no_sample(said: bytes) -> None:
    reader = TimingsReader(is_alone=True)
    reader.feed(said)
    assert reader.told() is None


def said(drafted: int, accepted: int) -> bytes:
    counts = f'"predicted_n":40,"predicted_ms":500.0,"draft_n":{drafted},"draft_n_accepted":{accepted}'
    return f'data: {{"timings":{{{counts}}}}}'.encode()


def test_every_answers_drafts_are_counted_and_only_lonely_answers_are_compared() -> None:
    switch = DraftSwitch("ngram", is_fixed=False)
    first, second = switch.begin(1, None), switch.begin(2, None)
    assert first is not None and second is not None
    first.feed(said(30, 20))
    second.feed(said(10, 1))
    switch.end(first, 1.0, None)
    switch.end(second, 1.0, None)

    now = switch.now()
    assert now is not None
    assert (now.drafter, now.state, now.drafted, now.accepted) == ("n-grams (ngram-simple)", "tried", 40, 21)
    assert now.reason == "being compared: 0 answers with drafts so far"


def test_a_splits_drafts_stay_on_and_say_so() -> None:
    now = DraftSwitch("own-heads", is_fixed=True).now()
    assert now is not None
    assert (now.state, now.is_drafting) == ("on", True)
    assert now.reason == "on: a split is not started again to compare, nothing was drafted lately"


def test_an_engine_without_drafts_says_nothing_of_them() -> None:
    switch = DraftSwitch(None, is_fixed=False)
    assert (switch.now(), switch.words()) == (None, "")
