"""What is drafted behind each answer of a batch, and what became of it. Pure but for whoever drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llm.sessions.batch import Work
from llm.sessions.drafter import Ask, Drafter
from llm.sessions.drafting import BatchTimes, Costs, Drafting
from llm.sessions.session import Turn

CHANCE_MEMORY = 0.05
"""Share of the latest block in what new sessions are told of drafts."""
SEEN_ANEW = 16
"""One of so many new sessions drafts whatever became of others' drafts, or a bad hour would end them for ever."""


FIRST_CHANCE = 2 / 3


@dataclass(slots=True)
class Proposals:
    """vocabulary: how many tokens there are.  times: of batches, as measured.

    chances: that a drafted token stands, of late and in all sessions, for each drafter.
    """

    vocabulary: int
    times: BatchTimes = field(default_factory=BatchTimes)
    chances: dict[str, float] = field(default_factory=dict)
    _opened: int = 0

    def controller(self, drafter: Drafter) -> Drafting:
        """A new session's: what others' drafts were worth, but now and then it is seen anew."""
        self._opened += 1
        if self._opened % SEEN_ANEW == 0:
            return Drafting()
        return Drafting.after(self.chances.get(drafter.name, FIRST_CHANCE))

    def add(self, works: Sequence[Work], room: int, now: float) -> None:
        """Put drafts behind the works that may have one, `room` rows of the batch together at most."""
        rows = sum(work.count for work in works)
        costly: dict[str, list[tuple[Work, Ask]]] = {}
        for work in works:
            count = self._most(work, (room - rows) // len(works), now)
            if not count:
                continue
            drafter, drafting = work.turn.drafter, work.turn.session.drafting
            ask = Ask(work.turn.session.id, work.turn.session.tokens, count)
            if not drafter.is_free:
                count = min(count, drafting.choose(self._costs(rows, drafter), now).count)
                if count:
                    costly.setdefault(drafter.name, []).append((work, replace(ask, count=count)))
                continue
            # Asked for first: most often there is none, which is sooner known than whether one would pay.
            (proposed,) = drafter.propose([ask])
            if proposed:
                count = min(count, drafting.choose(self._costs(rows, drafter), now).count)
                work.draft = self._legible(proposed, count)
        for asked in costly.values():
            proposals = asked[0][0].turn.drafter.propose([ask for _, ask in asked])
            for (work, ask), proposed in zip(asked, proposals, strict=True):
                work.draft = self._legible(proposed, ask.count)

    def _most(self, work: Work, room: int, now: float) -> int:
        """How many tokens the turn may draft, `room` at most."""
        turn = work.turn
        if not turn.wish.drafts or turn.wish.temperature > 0 or not work.is_complete or not turn.said:
            return 0
        if turn.alone:
            turn.alone = False
            return 0
        drafting = turn.session.drafting
        return 0 if drafting.rests(now) else max(0, min(drafting.most, room, turn.wish.most_tokens - turn.said - 1))

    def _legible(self, proposed: Sequence[int], count: int) -> Sequence[int]:
        """Up to the first that is no token: llama.cpp would refuse the whole batch, and a drafter may be elsewhere."""
        kept = proposed[:count]
        wrong = next((place for place, token in enumerate(kept) if not 0 <= token < self.vocabulary), len(kept))
        return kept[:wrong]

    def note(self, turn: Turn, drafted: int, accepted: int, others: int, now: float) -> None:
        """A block of the turn was verified. others: rows in the batch beside it."""
        drafter = turn.drafter
        turn.session.drafting.note(drafted, accepted, self._costs(others, drafter), now)
        share = accepted / (accepted + (accepted < drafted))
        before = self.chances.get(drafter.name, FIRST_CHANCE)
        self.chances[drafter.name] = before + CHANCE_MEMORY * (share - before)

    def _costs(self, rows: int, drafter: Drafter) -> Costs:
        """Of a draft beside `rows` others in the batch: a token alone would take as long as that batch without it."""
        return Costs(
            self.times.expect(rows),
            lambda count: self.times.expect(rows + count),
            drafter.draft_s,
            drafter.round_trip_s,
        )
