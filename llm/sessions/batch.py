"""What one batch decodes: whose unread tokens, and which drafts behind them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm.sessions.drafter import Drafter
from llm.sessions.session import Turn
from llm.sessions.shares import share_rows

NO_DRAFT: tuple[int, ...] = ()
LONG_ROWS = 48
"""From so many rows of one sequence on they are read together with others as long, not with single tokens."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token of a batch. wants_logits: what may follow it is asked for."""

    sequence: int
    token: int
    position: int
    wants_logits: bool


@dataclass(slots=True)
class Work:
    """One turn's part of a batch: `count` tokens of what it has not read, and a draft `by` somebody behind the last."""

    turn: Turn
    count: int
    draft: Sequence[int] = NO_DRAFT
    by: Drafter | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything that the turn has to read is in this batch."""
        return self.count == len(self.turn.unread)

    @property
    def answers(self) -> int:
        """Rows whose logits are wanted: the last token's and every drafted one's."""
        return len(self.draft) + 1 if self.is_complete and self.turn.wish.most_tokens else 0

    @property
    def rows(self) -> int:
        return self.count + len(self.draft)


def compose(turns: Sequence[Turn], room: int) -> list[Work]:
    """Each turn's part of `room` rows, drafts left out; who gets none is not in it."""
    shares = share_rows([len(turn.unread) for turn in turns], room)
    return [Work(turn, share) for turn, share in zip(turns, shares, strict=True) if share]


def calls_of(works: Sequence[Work], most_mixed: int) -> list[list[Work]]:
    """The works of a batch in calls of llama.cpp: long ones in one, of the others `most_mixed` rows at most in each."""
    if sum(work.rows for work in works) <= most_mixed:
        return [list(works)]
    long = [work for work in works if work.rows >= LONG_ROWS]
    calls: list[list[Work]] = [long] if long else []
    room = 0
    for work in works:
        if work.rows >= LONG_ROWS:
            continue
        if work.rows > room:
            calls.append([])
            room = most_mixed
        calls[-1].append(work)
        room -= work.rows
    return calls


def rows_of(work: Work) -> list[Row]:
    """The rows of one turn."""
    turn = work.turn
    sequence, start = turn.session.sequence, len(turn.session.cached)
    assert sequence is not None
    tokens = [*turn.unread[: work.count], *work.draft]
    answers_from = len(tokens) - work.answers
    return [Row(sequence, token, start + index, index >= answers_from) for index, token in enumerate(tokens)]
