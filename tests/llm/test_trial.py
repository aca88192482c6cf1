"""Whether drafts pay: what is compared, when an engine is to be started the other way, and when it is left alone."""

from __future__ import annotations

import pytest

from llm.engines.drafts import DraftSwitch
from llm.engines.timings import TimingsReader
from llm.engines.trial import LEAST_TOKENS, LONGEST_LOAD_S, MOST_SAMPLES, RETRY_S, SAMPLES, Sample, Trial


def answers(trial: Trial, rate: float, *, is_drafting: bool, share: float = 0.6, count: int = SAMPLES) -> None:
    """count answers of 256 tokens at `rate` tokens a second, of whose drafted tokens `share` stood."""
    drafted = 100 if is_drafting else 0
    for _ in range(count):
        trial.note(Sample(256, 256 / rate, drafted, round(share * drafted)), is_drafting=is_drafting, now=0.0)


def compared(with_drafts: float, without: float, share: float = 0.6) -> Trial:
    trial = Trial(load_s=1.0)
    answers(trial, with_drafts, is_drafting=True, share=share)
    answers(trial, without, is_drafting=False)
    return trial


def test_it_drafts_first_then_not_and_keeps_what_was_faster() -> None:
    trial = Trial(load_s=1.0)
    assert trial.wants_drafts(0.0)
    answers(trial, 130, is_drafting=True, count=SAMPLES - 1)
    assert trial.wants_drafts(0.0)
    answers(trial, 130, is_drafting=True, count=1)
    assert not trial.wants_drafts(0.0)
    assert "5 answers with drafts, 0 without" in trial.words()
    answers(trial, 100, is_drafting=False)
    assert (trial.state, trial.wants_drafts(0.0)) == ("on", True)
    assert trial.words() == "on: 1.30 times as fast with them, 60% of drafted tokens stand"


@pytest.mark.parametrize(("with_drafts", "state"), [(80.0, "off"), (102.0, "off"), (110.0, "on")])
def test_drafts_have_to_be_clearly_faster(with_drafts: float, state: str) -> None:
    assert compared(with_drafts, 100).state == state


def test_it_stays_on_until_it_would_be_slower() -> None:
    trial = compared(110, 100, share=0.6)
    # 256 tokens in 206 steps where it was 196: less than what turned it on, and still no loss.
    answers(trial, 1, is_drafting=True, share=0.5)
    assert trial.words().startswith("on")
    answers(trial, 1, is_drafting=True, share=0.1)
    assert trial.words().startswith("being compared")
    assert not trial.wants_drafts(0.0)
    answers(trial, 100, is_drafting=False)
    assert trial.words().startswith("off")


def test_answers_of_a_moment_are_compared_in_greater_number() -> None:
    trial = Trial(load_s=1.0)
    answers(trial, 256 * 100, is_drafting=True, count=MOST_SAMPLES - 1)  # 10 ms each
    assert trial.wants_drafts(0.0)
    answers(trial, 256 * 100, is_drafting=True, count=1)
    assert not trial.wants_drafts(0.0)


def test_off_is_tried_again_later_and_later() -> None:
    trial = compared(80, 100)
    assert not trial.wants_drafts(RETRY_S - 1)
    assert trial.wants_drafts(RETRY_S)
    answers(trial, 80, is_drafting=True)
    answers(trial, 100, is_drafting=False)
    assert trial.state == "off"
    assert not trial.wants_drafts(RETRY_S + 1)
    assert trial.wants_drafts(2 * RETRY_S)


def test_a_model_that_takes_long_to_start_is_judged_by_what_stands() -> None:
    for share, state in ((0.6, "on"), (0.0, "off")):
        trial = Trial(load_s=LONGEST_LOAD_S + 1)
        answers(trial, 100, is_drafting=True, share=share)
        assert trial.state == state
        assert f"{share:.0%} of drafted tokens stand" in trial.words()


def test_drafts_of_which_nothing_stands_are_off_at_once() -> None:
    trial = Trial(load_s=1.0)
    answers(trial, 100, is_drafting=True, share=0.0)
    assert trial.state == "off"


def test_short_answers_say_nothing() -> None:
    trial = Trial()
    for _ in range(SAMPLES):
        trial.note(Sample(LEAST_TOKENS - 1, 1.0, 10, 5), is_drafting=True, now=0.0)
    assert trial.wants_drafts(0.0)
    assert "0 answers with drafts" in trial.words()


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
    first, second = switch.begin(1), switch.begin(2)
    assert first is not None and second is not None
    first.feed(said(30, 20))
    second.feed(said(10, 1))
    switch.end(first, 1.0)
    switch.end(second, 1.0)

    now = switch.now()
    assert now is not None
    assert (now.drafter, now.state, now.drafted, now.accepted) == ("n-grams (ngram-simple)", "tried", 40, 21)
    assert now.reason == "being compared: 0 answers with drafts, 0 without"


def test_a_splits_drafts_stay_on_and_say_so() -> None:
    now = DraftSwitch("own-heads", is_fixed=True).now()
    assert now is not None
    assert (now.state, now.is_drafting) == ("on", True)
    assert now.reason == "on: a split is not started again to compare, nothing was drafted lately"


def test_an_engine_without_drafts_says_nothing_of_them() -> None:
    switch = DraftSwitch(None, is_fixed=False)
    assert (switch.now(), switch.words()) == (None, "")
