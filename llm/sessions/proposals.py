"""What is drafted behind each answer of a batch, and what became of it. Pure but for whoever drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llm.sessions.batch import NO_DRAFT, Work
from llm.sessions.drafting import BatchTimes, Costs, Drafting
from llm.sessions.session import Session

CHANCE_MEMORY = 0.05
"""Share of the latest block in what new sessions are told of drafts."""
SEEN_ANEW = 16
"""One of so many new sessions drafts whatever became of others' drafts, or a bad hour would end them for ever."""


@dataclass(slots=True)
class Proposals:
    """times: of batches, as measured.  chance: that a drafted token stands, of late and in all sessions."""

    times: BatchTimes = field(default_factory=BatchTimes)
    chance: float = 2 / 3
    _opened: int = 0

    def controller(self) -> Drafting:
        """A new session's: what others' drafts were worth, but now and then it is seen anew."""
        self._opened += 1
        return Drafting() if self._opened % SEEN_ANEW == 0 else Drafting.after(self.chance)

    def add(self, works: Sequence[Work], room: int, now: float) -> None:
        """Put drafts behind the works that may have one, `room` rows of the batch together at most."""
        rows = sum(work.count for work in works)
        for work in works:
            work.draft = self._draft(work, rows, (room - rows) // len(works), now)

    def _draft(self, work: Work, rows: int, room: int, now: float) -> Sequence[int]:
        """What the turn drafts, beside the `rows` of all that is certain."""
        turn = work.turn
        if not turn.wish.drafts or turn.wish.temperature > 0 or not work.is_complete or not turn.said:
            return NO_DRAFT
        if turn.alone:
            turn.alone = False
            return NO_DRAFT
        drafting = turn.session.drafting
        count = min(drafting.most, room, turn.wish.most_tokens - turn.said - 1)
        if count <= 0 or drafting.rests(now):
            return NO_DRAFT
        # Asked for first: most often there is none, which is sooner known than whether one would pay.
        proposed = turn.draft(turn.session.tokens, count)
        return proposed[: min(count, drafting.choose(self._costs(rows), now).count)] if proposed else NO_DRAFT

    def note(self, session: Session, drafted: int, accepted: int, others: int, now: float) -> None:
        """A block of the session was verified. others: rows in the batch beside it."""
        session.drafting.note(drafted, accepted, self._costs(others), now)
        share = accepted / (accepted + (accepted < drafted))
        self.chance += CHANCE_MEMORY * (share - self.chance)

    def _costs(self, rows: int) -> Costs:
        """Of a draft beside `rows` others in the batch: a token alone would take as long as that batch without it."""
        return Costs(self.times.expect(rows), lambda count: self.times.expect(rows + count))
