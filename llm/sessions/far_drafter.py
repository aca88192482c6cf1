"""A drafter on another host, as the thread that decodes sees it: asked now, answered while others are decoded.

What is said on `draft/1` is decided in `llm.draft.correspondence`, and carried by a `Post`. A session whose drafter
does not answer in time is decoded without; one whose drafter is lost does without for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llm.draft.correspondence import Correspondence
from llm.draft.message import MOST_DRAFTED, Proposal, Question, Ready
from llm.draft.message import MOST_TOKENS as MOST_TELLABLE
from llm.draft.tally import Tally
from llm.sessions.drafter import Ask
from llm.sessions.drafting import MOST_TOKENS, BatchTimes, typical

AWAY_S = 5.0
"""After a drafter was lost, or none was found, until it is looked for again."""
LEAST_PATIENCE_S, MOST_PATIENCE_S = 0.05, 2.0
TELL_EVERY_S = 1.0
SHORT_TOKENS = 256
"""A longer text takes time on its way that no block does."""
LATEST_WAYS = 9
NOBODY = "another host"


class Post(Protocol):
    """Carries what one session and its drafter say to one another. Returns at once; called by the decoding thread."""

    def open(self, session: str) -> None: ...

    def send(self, session: str, questions: Sequence[Question]) -> None: ...

    def tell(self, session: str, tally: Tally) -> None: ...

    def close(self, session: str) -> None: ...


@dataclass(slots=True)
class _Line:
    """One session's. prompt: to tell once it is open."""

    letters: Correspondence = field(default_factory=Correspondence)
    is_open: bool = False
    prompt: Sequence[int] = ()


@dataclass(slots=True)
class FarDrafter:
    """A `Drafter`. clock: seconds.  model: that it drafts for."""

    post: Post
    clock: Callable[[], float]
    model: str
    name: str = NOBODY
    is_free: bool = False
    is_far: bool = True
    round_trip_s: float = 0.0
    missed: int = 0
    blocks: int = 0
    drafted: int = 0
    accepted: int = 0
    _lines: dict[str, _Line] = field(default_factory=dict)
    _times: BatchTimes = field(default_factory=BatchTimes)
    _ways: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST_WAYS))
    _away_until: float = float("-inf")
    _told: tuple[str, float] = ("", float("-inf"))

    def draft_s(self, count: int) -> float:
        """As the drafter says, then as measured there."""
        return self._times.measured(count)

    # What the sessions want

    def begin(self, session: str, tokens: Sequence[int]) -> None:
        """An answer begins: let the drafter read what it will go on from, meanwhile."""
        line = self._lines.get(session)
        if line is None:
            if self.clock() < self._away_until or not has_room(tokens):
                return
            self._lines[session] = _Line(prompt=tokens)
            self.post.open(session)
        elif not line.is_open:
            line.prompt = tokens
        elif not line.letters.is_pending and has_room(tokens):
            self._read(session, line, tokens)

    def is_open(self, session: str) -> bool:
        line = self._lines.get(session)
        return line is not None and line.is_open

    def is_pending(self, session: str) -> bool:
        return self._lines[session].letters.is_pending

    def is_worth_waiting(self, session: str) -> bool:
        return self._lines[session].letters.is_worth_waiting(self.clock())

    def misses(self, session: str) -> bool:
        """Whether the answer's deadline has passed since it was last looked; the way counts as that long."""
        letters = self._lines[session].letters
        if not letters.misses(self.clock()):
            return False
        self.missed += 1
        self._note_way(letters.waited_s(self.clock()))
        return True

    def is_answered(self, session: str, tokens: Sequence[int]) -> bool:
        """Whether it was asked about just these, or knows already how they go on."""
        letters = self._lines[session].letters
        return letters.is_told(tokens) or bool(letters.continuation(tokens))

    def ask(self, session: str, tokens: Sequence[int], count: int) -> None:
        """Nothing may be pending."""
        patience_s = min(max(2 * (self.round_trip_s + self.draft_s(count)), LEAST_PATIENCE_S), MOST_PATIENCE_S)
        self.post.send(session, self._lines[session].letters.ask(tokens, count, patience_s, self.clock()))

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """What has come."""
        return [
            self._lines[ask.session].letters.continuation(ask.tokens)[: ask.count] if self.is_open(ask.session) else ()
            for ask in asks
        ]

    def note(self, drafted: int, accepted: int) -> None:
        """A block was verified."""
        self.blocks += 1
        self.drafted += drafted
        self.accepted += accepted

    def forget(self, session: str) -> None:
        if self._lines.pop(session, None) is not None:
            self.post.close(session)

    def tell(self, session: str, state: str, make: Callable[[], Tally]) -> None:
        """Let the agent know how drafting goes: each change of state, and now and then."""
        before, told_at = self._told
        if state != before or self.clock() - told_at >= TELL_EVERY_S:
            self._told = (state, self.clock())
            self.post.tell(session, make())

    # What the post brings

    def opened(self, session: str, ready: Ready) -> None:
        line = self._lines.get(session)
        if line is None:
            self.post.close(session)
            return
        if self.name != ready.model:
            self.name, self.round_trip_s, self._times = ready.model, ready.round_trip_s, BatchTimes()
            self._ways.clear()
            for count in (1, MOST_TOKENS):
                self._times.note(count, count * ready.token_s)
        line.is_open = True
        if has_room(line.prompt):
            self._read(session, line, line.prompt)

    def answered(self, session: str, proposal: Proposal, arrived: float) -> None:
        """arrived: by the clock; this is called once the batch is over that was decoded meanwhile."""
        line = self._lines.get(session)
        if line is None or not line.letters.is_pending:
            return
        letters = line.letters
        on_way_s = letters.answered(proposal, arrived)
        if letters.new_tokens <= SHORT_TOKENS:
            self._note_way(on_way_s)
            if letters.count > 1:
                self._times.note(letters.count, proposal.took_s)

    def lost(self, session: str) -> None:
        """The drafter has gone, or there is none. One that nobody waits for has let an idle conversation go."""
        line = self._lines.pop(session, None)
        if line is not None and (line.letters.is_pending or not line.is_open):
            self._away_until = self.clock() + AWAY_S

    def _read(self, session: str, line: _Line, tokens: Sequence[int]) -> None:
        # Nobody waits for this answer: it says that the text was read.
        self.post.send(session, line.letters.ask(tokens, 1, 0.0, self.clock()))

    def _note_way(self, seconds: float) -> None:
        # One answer that was held up must not end drafting for all that begin after it.
        self._ways.append(seconds)
        self.round_trip_s = typical(self._ways)


def has_room(tokens: Sequence[int]) -> bool:
    """Whether a drafter may be told so much, and draft behind it."""
    return len(tokens) + MOST_DRAFTED <= MOST_TELLABLE
