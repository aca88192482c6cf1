"""Sessions whose drafter is elsewhere: here a model in this process, behind a post that can be late, lie and die."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import llm.demo
from llm.draft.message import Proposal, Question, Ready
from llm.draft.tally import Tally
from llm.sessions.drafter import NONE, Ask
from llm.sessions.drafting import PROBE_BLOCKS, State
from llm.sessions.far_drafter import AWAY_S, FarDrafter
from llm.sessions.session import Session, Turn, Wish
from llm.sessions.shelf import Shelf

pytest.importorskip("llama_cpp")  # the extra `llm`

from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.draft_model import DraftModel
from llm.sessions.drafter_child import follow
from llm.sessions.sessions import Sessions
from tests.llm.sessions.conftest import Heard

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
DRAFT = TOY.with_name("meshd-toy-draft.gguf")
NAMES = ("meshd", "gossip", "a form", "a node", "the host", "a token", "bend", "a mesh", "the console", "a split")
QUESTIONS = ("What is {}?", "How does {} work?", "Who needs {}?", "Why {}?", "When is {} used?", "Tell me about {}.")
PROMPTS = [question.format(name) for name in NAMES for question in QUESTIONS]


class Clock:
    """Stands still but when it is set, and for what a look takes: a batch takes one, however many rows it has."""

    now = 0.0
    look_s = 1e-6

    def __call__(self) -> float:
        self.now += self.look_s
        return self.now


@dataclass
class Elsewhere:
    """A `Post`, and the drafter at its other end, which answers when `deliver` is called."""

    model: DraftModel
    tokens: dict[str, list[int]] = field(default_factory=dict)
    opening: list[str] = field(default_factory=list)
    asked: list[tuple[str, Question]] = field(default_factory=list)
    questions: int = 0
    tallies: list[Tally] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def open(self, session: str) -> None:
        self.tokens[session] = []
        self.opening.append(session)

    def send(self, session: str, questions: Sequence[Question]) -> None:
        self.asked += [(session, question) for question in questions]
        self.questions += len(questions)

    def tell(self, session: str, tally: Tally) -> None:
        self.tallies.append(tally)

    def close(self, session: str) -> None:
        self.closed.append(session)

    def deliver(self, far: FarDrafter, lie: random.Random | None = None) -> None:
        """Let everything arrive, there and back."""
        opening, self.opening = self.opening, []
        for session in opening:
            far.opened(session, Ready("small", 0.0001, 0.0))
        asked, self.asked = self.asked, []
        for session, question in asked:
            tokens = self.tokens[session]
            follow(tokens, question)
            if not question.count:
                continue
            (ids,) = self.model.propose([Ask(session, tokens, question.count)])
            said = [lie.choice((5, 1 << 31, one, one + 1)) for one in ids] if lie is not None else list(ids)
            tokens += said
            far.answered(session, Proposal(said, 0.0001), far.clock())


@dataclass
class Host:
    """Sessions with a drafter elsewhere."""

    sessions: Sessions
    far: FarDrafter
    post: Elsewhere
    clock: Clock

    def begin(self, prompt: str, wish: Wish) -> tuple[Session, Turn]:
        session = self.sessions.create("me", None)
        text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        self.sessions.append(session, self.sessions.context.tokenize(text, is_start=True))
        return session, self.sessions.begin(session, wish, Heard(), NONE)

    def plain(self, prompt: str) -> list[int]:
        session, turn = self.begin(prompt, Wish(most_tokens=64))
        while session.turn is turn:
            self.sessions.step()
        self.sessions.delete(session)
        return session.tokens


@pytest.fixture(scope="module")
def contexts() -> Iterator[tuple[Context, DraftModel]]:
    be_quiet()
    context = Context(ContextSettings(TOY, cells=1024, sequences=4, threads=1))
    model = DraftModel(Context(ContextSettings(DRAFT, cells=1024, sequences=4, threads=1)), "small", Clock())
    yield context, model
    model.close()
    context.close()


@pytest.fixture
def host(contexts: tuple[Context, DraftModel], tmp_path: Path) -> Host:
    context, model = contexts
    clock = Clock()
    post = Elsewhere(model)
    far = FarDrafter(post, lambda: clock.now, "toy")
    return Host(Sessions(context, Shelf(tmp_path), clock, far=far), far, post, clock)


@pytest.mark.parametrize(
    ("kind", "prompts"), [("prompt", PROMPTS), ("late", PROMPTS[::4]), ("dies", PROMPTS[::4]), ("lies", PROMPTS[::4])]
)
def test_drafts_from_afar_change_no_answer(host: Host, kind: str, prompts: list[str]) -> None:
    dice = random.Random(3)
    accepted = 0
    for prompt in prompts:
        plain = host.plain(prompt)
        session, turn = host.begin(prompt, Wish(most_tokens=64, drafts=True, block=5))
        while session.turn is turn:
            if not host.sessions.step():
                host.clock.now += 0.01
            if kind != "late" or dice.random() < 0.3:
                host.post.deliver(host.far, dice if kind == "lies" else None)
            if kind == "dies" and host.post.questions % 7 == 6 and turn.said:
                host.far.lost(session.id)
                host.clock.now += AWAY_S
                host.far.begin(session.id, session.tokens)
        assert session.tokens == plain, prompt
        assert turn.accepted <= turn.drafted
        accepted += turn.accepted
        host.sessions.delete(session)
    assert accepted > len(prompts)


def test_who_waits_for_a_draft_holds_up_nobody(host: Host) -> None:
    first, waiting = host.begin(PROMPTS[0], Wish(most_tokens=64, drafts=True, block=5))
    host.post.deliver(host.far)
    while not host.post.asked or host.post.asked[-1][1].count != 5:
        host.post.deliver(host.far)
        host.sessions.step()
    said = waiting.said
    second, other = host.begin(PROMPTS[1], Wish(most_tokens=40))
    while second.turn is other:
        assert host.sessions.step()
    assert waiting.said == said
    host.post.deliver(host.far)
    assert host.sessions.step()
    assert waiting.said > said
    for session in (first, second):
        host.sessions.delete(session)


def test_an_answer_that_does_not_come_is_not_waited_for(host: Host) -> None:
    session, turn = host.begin(PROMPTS[0], Wish(most_tokens=30, drafts=True, block=5))
    host.post.deliver(host.far)
    while session.turn is turn:
        if host.post.asked and host.post.asked[-1][1].count == 1:
            host.post.deliver(host.far)  # it has read the text, and says nothing more
        if not host.sessions.step():
            host.clock.now += 0.3
    assert (turn.said, turn.drafted, host.far.missed) == (30, 0, 1)
    host.sessions.delete(session)


def test_an_unknown_drafter_is_tried_with_two_blocks_and_kept_where_they_gain(host: Host) -> None:
    host.clock.look_s = 0.01
    session, turn = host.begin(PROMPTS[2], Wish(most_tokens=64, drafts=True))
    states = []
    while session.turn is turn:
        host.sessions.step()
        host.post.deliver(host.far)
        if session.far_drafting is not None:
            states.append((turn.blocks, session.far_drafting.state))
    assert {state for blocks, state in states if blocks < PROBE_BLOCKS} == {State.OFF}
    # One more where what came with the reading of the text was of use.
    assert {(PROBE_BLOCKS, State.ON), (PROBE_BLOCKS + 1, State.ON)} & {*states}
    assert host.sessions.describe(session)["far_draft"]["state"] == "on"
    assert [tally.state for tally in host.post.tallies][:1] == ["off"]
    assert host.post.tallies[-1].state == "on"
    assert host.post.tallies[-1].drafter == "small"
    host.sessions.delete(session)


def test_what_the_text_says_by_itself_is_not_asked_for_elsewhere(host: Host) -> None:
    session = host.sessions.create("me", None)
    text = "one two three one two three one two three one two three one two three"
    host.sessions.append(session, host.sessions.context.tokenize(text, is_start=True))
    turn = host.sessions.begin(session, Wish(most_tokens=40, drafts=True), Heard())
    host.clock.look_s = 0.01
    by = set()
    while session.turn is turn:
        host.sessions.step()
        host.post.deliver(host.far)
        by.add(turn.drafted_by.name if turn.drafted_by is not None else "")
    assert "ngram" in by
    host.sessions.delete(session)


def test_a_deleted_session_has_no_drafter_and_one_that_found_none_looks_again_later(host: Host) -> None:
    wish = Wish(most_tokens=1, drafts=True)
    session, turn = host.begin(PROMPTS[0], wish)
    host.post.deliver(host.far)
    host.sessions.delete(session)
    assert host.post.closed == [session.id]
    session, turn = host.begin(PROMPTS[0], wish)
    host.far.lost(session.id)
    other, _ = host.begin(PROMPTS[1], wish)
    assert other.id not in host.post.tokens
    host.clock.now += AWAY_S
    late, _ = host.begin(PROMPTS[2], wish)
    assert late.id in host.post.tokens
    for one in (session, other, late):
        host.sessions.delete(one)
    assert turn.session is session


def test_the_way_ends_where_an_answer_arrives_not_where_it_is_heard(host: Host) -> None:
    session, _ = host.begin(PROMPTS[0], Wish(most_tokens=30, drafts=True))
    host.far.opened(session.id, Ready("small", 0.0001, 0.0))
    asked = host.clock.now
    host.clock.now += 0.8  # a batch of many rows
    host.far.answered(session.id, Proposal((5,), 0.01), asked + 0.05)
    assert host.far.round_trip_s == pytest.approx(0.04, abs=1e-3)
    host.sessions.delete(session)
