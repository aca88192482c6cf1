from __future__ import annotations

import random

from llm.draft.correspondence import Correspondence
from llm.draft.message import MOST_NEW, Proposal
from llm.sessions.drafter_child import follow

TEXT = list(range(100, 140))


def test_what_both_know_is_not_said_again() -> None:
    letters = Correspondence()
    (first,) = letters.ask(TEXT, 4, 1.0, now=0.0)
    assert (first.keep, list(first.new), first.count) == (0, TEXT, 4)
    letters.answered(Proposal((1, 2, 3, 4), 0.01), now=0.1)
    # Two of them stood, then the model said otherwise.
    (second,) = letters.ask([*TEXT, 1, 2, 9], 4, 1.0, now=0.2)
    assert (second.keep, list(second.new)) == (len(TEXT) + 2, [9])


def test_a_text_too_long_for_one_question_comes_in_several_of_which_the_last_is_answered() -> None:
    text = list(range(2 * MOST_NEW + 5))
    questions = Correspondence().ask(text, 3, 1.0, now=0.0)
    assert [(one.keep, len(one.new), one.count) for one in questions] == [
        (0, MOST_NEW, 0),
        (MOST_NEW, MOST_NEW, 0),
        (2 * MOST_NEW, 5, 3),
    ]


def test_the_drafter_has_what_the_host_thinks_it_has_whatever_happens() -> None:
    dice = random.Random(7)
    for _ in range(50):
        letters, there = Correspondence(), list[int]()
        text = [dice.randrange(4) for _ in range(dice.randrange(1, 9))]
        for now in range(30):
            for question in letters.ask(text, 4, 1.0, now=now):
                follow(there, question)
            assert there == text
            drafted = [dice.randrange(4) for _ in range(dice.randrange(5))]
            there += drafted
            letters.answered(Proposal(drafted, 0.0), now=now)
            if dice.random() < 0.2:
                text = text[: dice.randrange(1, len(text) + 1)]  # the conversation became another one
            text = [*text, *drafted[: dice.randrange(5)], *(dice.randrange(4) for _ in range(dice.randrange(3)))]


def test_it_is_waited_for_until_its_deadline_which_passes_once() -> None:
    letters = Correspondence()
    letters.ask(TEXT, 4, 0.5, now=10.0)
    assert letters.is_worth_waiting(10.4)
    assert not letters.misses(10.4)
    assert not letters.is_worth_waiting(10.6)
    assert letters.misses(10.6)
    assert not letters.misses(10.7)
    assert letters.is_pending


def test_the_way_is_what_the_drafter_did_not_take() -> None:
    letters = Correspondence()
    letters.ask(TEXT, 4, 0.5, now=10.0)
    assert round(letters.answered(Proposal((1,), 0.04), now=10.1), 6) == 0.06


def test_a_late_answer_is_used_as_far_as_it_was_right() -> None:
    letters = Correspondence()
    letters.ask(TEXT, 4, 0.0, now=0.0)
    assert not letters.misses(1.0), "nobody waited"
    assert letters.continuation([*TEXT, 1]) == (), "it has not come"
    letters.answered(Proposal((1, 2, 3, 4), 0.01), now=1.0)
    assert list(letters.continuation(TEXT)) == [1, 2, 3, 4]
    assert list(letters.continuation([*TEXT, 1, 2])) == [3, 4]
    assert letters.continuation([*TEXT, 9]) == ()
    assert letters.continuation([0, *TEXT[1:]]) == ()
