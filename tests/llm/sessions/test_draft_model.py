"""A draft model beside the sessions' model: it follows them, and changes no answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")  # the extra `llm`

from llm.errors import BadRequest
from llm.sessions.batch import Row
from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.draft_model import DraftModel, recent
from llm.sessions.drafter import Ask
from llm.sessions.sampling import best
from llm.sessions.session import Turn, Wish
from llm.sessions.sessions import Sessions
from tests.llm.sessions.conftest import Heard, Make
from tests.llm.sessions.recall_model import FIRST_WORD
from tests.llm.sessions.test_sessions import FILLERS, finish

NAME = "recall-draft"


@pytest.fixture
def drafter(recall_model: Path) -> Iterator[DraftModel]:
    """The very same model in another context, so that it knows what is going to be said."""
    be_quiet()
    times = iter(range(1 << 30))
    context = Context(ContextSettings(recall_model, cells=1024, sequences=3, threads=1))
    drafter = DraftModel(context, NAME, lambda: next(times) * 1e-6)
    yield drafter
    drafter.close()


def cycle(seed: int) -> list[int]:
    """Words that come again in their order; each is followed by one word only."""
    dice = random.Random(seed)
    return ([FIRST_WORD + word for word in dice.sample(FILLERS, 13)] * 3)[:30]


def plainly(path: Path, tokens: list[int], count: int) -> list[int]:
    """What the model says, a token at a time."""
    context = Context(ContextSettings(path, cells=256, sequences=1, threads=1))
    said: list[int] = []
    unread = tokens
    for _ in range(count):
        start = len(tokens) + len(said) - len(unread)
        rows = [Row(0, token, start + place, place == len(unread) - 1) for place, token in enumerate(unread)]
        said.append(best(context.decode(rows)[0]))
        unread = said[-1:]
    context.close()
    return said


def test_it_proposes_what_its_model_would_say_for_all_who_ask(drafter: DraftModel, recall_model: Path) -> None:
    asks = [Ask(str(seed), cycle(seed), 3 + seed) for seed in range(3)]
    expected = [plainly(recall_model, cycle(seed), 3 + seed) for seed in range(3)]
    assert drafter.propose(asks) == expected
    # Refused from its second token on: it goes on from what stands.
    asks = [
        Ask(one.session, [*one.tokens, said[0], FIRST_WORD + 7], 2) for one, said in zip(asks, expected, strict=True)
    ]
    assert drafter.propose(asks) == [plainly(recall_model, list(one.tokens), 2) for one in asks]


def test_more_sessions_than_it_has_sequences_take_turns(drafter: DraftModel, recall_model: Path) -> None:
    for seed in (0, 1, 2, 3, 4, 0):
        assert drafter.propose([Ask(str(seed), cycle(seed), 2)]) == [plainly(recall_model, cycle(seed), 2)]
    # Four at a time have no room in three sequences: one is left without.
    proposals = drafter.propose([Ask(str(seed), cycle(seed), 2) for seed in range(4)])
    assert sorted(map(len, proposals)) == [0, 2, 2, 2]


def test_a_long_text_is_read_a_batch_at_a_time_and_its_beginning_leaves(drafter: DraftModel) -> None:
    # More than its context holds: it follows the latest half of it.
    tokens = cycle(1) * 100
    proposals = [drafter.propose([Ask("long", [*tokens, *cycle(1)[: index + 1]], 2)])[0] for index in range(3)]
    assert list(proposals[-1]) == cycle(1)[3:5]


def test_what_is_recent_begins_at_the_same_place_for_a_while() -> None:
    assert recent([1, 2, 3], 8) == [1, 2, 3]
    starts = {len(range(length)) - len(recent(list(range(length)), 8)) for length in range(8, 40)}
    assert starts == set(range(0, 36, 4))
    assert all(4 <= len(recent(list(range(length)), 8)) <= 8 for length in range(8, 100))


def test_tokens_that_it_does_not_know_are_not_read(drafter: DraftModel) -> None:
    assert drafter.propose([Ask("strange", [1 << 20], 2)]) == [()]


def run(sessions: Sessions, draft_model: str) -> list[Turn]:
    turns = []
    for seed in range(60):
        session = sessions.create("me", None, draft_model)
        sessions.append(session, cycle(seed))
        turns.append(sessions.begin(session, Wish(most_tokens=64, drafts=bool(draft_model)), Heard()))
    finish(sessions)
    return turns


def test_sixty_prompts_say_the_same_with_a_draft_model(make: Make, drafter: DraftModel) -> None:
    sessions = make(cells=1024, sequences=3)
    sessions.draft_model = drafter
    plain, drafted = run(sessions, ""), run(sessions, NAME)
    assert [turn.session.tokens[30:] for turn in drafted] == [turn.session.tokens[30:] for turn in plain]
    assert sum(turn.drafted for turn in plain) == 0
    assert sum(turn.drafted for turn in drafted) > 60
    assert sum(turn.accepted for turn in drafted) >= 0.9 * sum(turn.drafted for turn in drafted)
    about = sessions.describe(drafted[0].session)
    assert (about["draft"]["by"], about["policy"]["draft_model"]) == (NAME, NAME)


def test_a_draft_model_that_is_not_there_is_refused_in_words(make: Make, drafter: DraftModel) -> None:
    sessions = make()
    with pytest.raises(BadRequest, match="start it with --draft FILE"):
        sessions.create("me", None, "small")
    sessions.draft_model = drafter
    with pytest.raises(BadRequest, match=f"it has '{NAME}'"):
        sessions.create("me", None, "small")


def test_a_session_whose_draft_model_has_gone_drafts_with_ngrams(make: Make, drafter: DraftModel) -> None:
    sessions = make()
    sessions.draft_model = drafter
    session = sessions.create("me", None, NAME)
    again = make()
    assert again.drafter_of(again.find(session.id, "me")).name == "ngram"
