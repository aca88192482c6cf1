"""What a host knows of its drafter's state, and of the answer that is on its way. Pure; one for each conversation.

The drafter has what it was told and what it drafted behind that. A question says how much of both still stands and what
follows, so that a block costs a few bytes however long the conversation is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llm.draft.message import MOST_NEW, Proposal, Question


@dataclass(slots=True)
class Correspondence:
    """told: the conversation as the drafter was last told it.  drafted: its answer to that.

    new_tokens, count: of the latest question.
    """

    told: list[int] = field(default_factory=list)
    drafted: Sequence[int] = ()
    new_tokens: int = 0
    count: int = 0
    _asked_at: float | None = None
    _patience_s: float = 0.0
    _missed: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether an answer has not come yet: until then nothing else is asked."""
        return self._asked_at is not None

    def is_told(self, tokens: Sequence[int]) -> bool:
        """Whether `tokens`, and nothing more or else, was what was asked about last."""
        return len(self.told) == len(tokens) and self.told == tokens

    def ask(self, tokens: Sequence[int], count: int, patience_s: float, now: float) -> list[Question]:
        """What to send so that `count` tokens behind `tokens` come back; it is worth waiting so long for them.

        All but the last only tell: a question has room for `MOST_NEW` tokens. Nothing may be pending.
        """
        assert not self.is_pending
        kept = common([*self.told, *self.drafted], tokens)
        starts = range(kept, max(kept + 1, len(tokens)), MOST_NEW)
        self.told, self.drafted = list(tokens), ()
        self.new_tokens, self.count = len(tokens) - kept, count
        self._asked_at, self._patience_s, self._missed = now, patience_s, patience_s <= 0
        questions = [Question(start, tokens[start : start + MOST_NEW], 0) for start in starts]
        return [*questions[:-1], Question(questions[-1].keep, questions[-1].new, count)]

    def answered(self, proposal: Proposal, now: float) -> float:
        """Take the answer to the latest question, however late; how long its way there and back was."""
        assert self._asked_at is not None
        on_way_s = max(0.0, now - self._asked_at - proposal.took_s)
        self.drafted, self._asked_at = proposal.ids, None
        return on_way_s

    def is_worth_waiting(self, now: float) -> bool:
        """Whether the answer may still come in time."""
        return self._asked_at is not None and now - self._asked_at < self._patience_s

    def misses(self, now: float) -> bool:
        """Whether the deadline has passed; true once for each question."""
        if self._asked_at is None or self._missed or self.is_worth_waiting(now):
            return False
        self._missed = True
        return True

    def waited_s(self, now: float) -> float:
        """For the answer that is on its way."""
        return now - self._asked_at if self._asked_at is not None else 0.0

    def continuation(self, tokens: Sequence[int]) -> Sequence[int]:
        """What of the latest answer goes on where `tokens` end; also one that came late, as far as it was right."""
        beyond = tokens[len(self.told) :]
        if self.is_pending or list(tokens[: len(self.told)]) != self.told:
            return ()
        return self.drafted[len(beyond) :] if list(self.drafted[: len(beyond)]) == list(beyond) else ()


def common(before: Sequence[int], after: Sequence[int]) -> int:
    """How many tokens both begin with."""
    limit = min(len(before), len(after))
    if list(before[:limit]) == list(after[:limit]):  # most often, and much sooner known
        return limit
    return next((index for index in range(limit) if before[index] != after[index]), limit)
