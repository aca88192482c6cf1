"""What is drafted behind each answer of a batch, and what became of it. Pure but for whoever drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llm.draft.tally import Tally
from llm.sessions.batch import Work
from llm.sessions.drafter import Ask, Drafter
from llm.sessions.drafting import FIRST_CHANCE, BatchTimes, Costs, Drafting, break_even_round_trip_s, expected_accepted
from llm.sessions.far_drafter import FarDrafter, has_room
from llm.sessions.session import Session, Turn

CHANCE_MEMORY = 0.05
"""Share of the latest block in what new sessions are told of drafts."""
SEEN_ANEW = 16
"""One of so many new sessions tries whatever became of others' drafts, or a bad hour would end them for ever."""


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
        """A new session's: what others' drafts were worth, but now and then it is seen anew, where that was little."""
        self._opened += 1
        chance = self.chances.get(drafter.name, FIRST_CHANCE)
        if self._opened % SEEN_ANEW == 0:
            return Drafting.unproven(max(chance, FIRST_CHANCE))
        return Drafting.after(chance)

    def sits_out(self, turn: Turn, rows: int, now: float) -> bool:
        """Whether the turn waits for a draft of another host while others are decoded; asks for one where that pays.

        rows: of the next batch without drafts.
        """
        far, session = turn.far, turn.session
        if far is None or not turn.may_draft or len(turn.unread) != 1 or not far.is_open(session.id):
            return False
        drafting = self._far_drafting(session, far)
        if far.misses(session.id):
            drafting.miss(now)
        if far.is_pending(session.id):
            return far.is_worth_waiting(session.id)
        if far.is_answered(session.id, session.tokens) or not has_room(session.tokens):
            return False
        count = min(self._far_count(turn, far, rows, now), turn.wish.most_tokens - turn.said - 1)
        far.tell(session.id, drafting.state.value, lambda: self._tally(turn, drafting, far, rows))
        if count > 0:
            far.ask(session.id, session.tokens, count)
        return count > 0

    def add(self, works: Sequence[Work], room: int, now: float) -> None:
        """Put drafts behind the works that may have one, `room` rows of the batch together at most."""
        rows = sum(work.count for work in works)
        costly: dict[str, list[tuple[Work, Ask]]] = {}
        for work in works:
            share = (room - rows) // len(works)
            if self._take_far(work, share):
                continue
            count = self._most(work, share, now)
            if not count:
                continue
            drafter, drafting = work.turn.drafter, work.turn.session.drafting
            work.by = drafter
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

    def _take_far(self, work: Work, room: int) -> bool:
        """Let the work have what came from another host; whether something did."""
        turn, far = work.turn, work.turn.far
        if far is None or not turn.may_draft or not work.is_complete or not far.is_open(turn.session.id):
            return False
        count = min(room, turn.wish.most_tokens - turn.said - 1)
        (proposed,) = far.propose([Ask(turn.session.id, turn.session.tokens, max(0, count))])
        work.draft = self._legible(proposed, count) if proposed else ()
        work.by = far if work.draft else None
        return bool(work.draft)

    def _far_drafting(self, session: Session, far: FarDrafter) -> Drafting:
        if session.far_drafting is None:
            is_known = far.name in self.chances
            session.far_drafting = self.controller(far) if is_known else Drafting.unproven()
        return session.far_drafting

    def _far_count(self, turn: Turn, far: FarDrafter, rows: int, now: float) -> int:
        """How many tokens to have drafted on the other host; 0 where that does not pay, or is done as well here."""
        if turn.wish.block:
            return turn.wish.block
        choice = self._far_drafting(turn.session, far).choose(self._costs(rows, far), now)
        if choice.count and turn.drafter.is_free:
            here = turn.session.drafting
            (proposed,) = turn.drafter.propose([Ask(turn.session.id, turn.session.tokens, here.most)])
            if proposed and here.choose(self._costs(rows, turn.drafter), now).speedup >= choice.speedup:
                return 0
        return choice.count

    def _tally(self, turn: Turn, drafting: Drafting, far: FarDrafter, rows: int) -> Tally:
        costs = self._costs(rows, far)
        best = turn.wish.block or drafting.best(costs)
        verify_s, draft_s = costs.verify_s(best), costs.draft_s(best)
        tokens = 1 + expected_accepted(drafting.chance, best)
        return Tally(
            model=far.model,
            drafter=far.name,
            state=drafting.state.value,
            speedup=drafting.speedup,
            best=best,
            chance=min(1.0, drafting.chance),
            plain_s=costs.plain_s,
            verify_s=verify_s,
            draft_s=draft_s,
            round_trip_s=far.round_trip_s,
            break_even_s=break_even_round_trip_s(tokens, costs.plain_s, verify_s + draft_s),
            blocks=far.blocks,
            drafted=far.drafted,
            accepted=far.accepted,
            missed=far.missed,
        )

    def _most(self, work: Work, room: int, now: float) -> int:
        """How many tokens the turn may draft, `room` at most."""
        turn = work.turn
        if turn.alone:
            turn.alone = False
            return 0
        if not turn.may_draft or not work.is_complete:
            return 0
        drafting = turn.session.drafting
        return 0 if drafting.rests(now) else max(0, min(drafting.most, room, turn.wish.most_tokens - turn.said - 1))

    def _legible(self, proposed: Sequence[int], count: int) -> Sequence[int]:
        """Up to the first that is no token: llama.cpp would refuse the whole batch, and a drafter may be elsewhere."""
        kept = proposed[:count]
        wrong = next((place for place, token in enumerate(kept) if not 0 <= token < self.vocabulary), len(kept))
        return kept[:wrong]

    def note(self, turn: Turn, drafter: Drafter, drafted: int, accepted: int, others: int, now: float) -> None:
        """A block of the turn was verified. others: rows in the batch beside it."""
        drafting = turn.session.drafting
        if turn.far is not None and drafter is turn.far:
            drafting = self._far_drafting(turn.session, turn.far)
            turn.far.note(drafted, accepted)
        turn.drafted_by = drafter
        drafting.note(drafted, accepted, self._costs(others, drafter), now)
        share = accepted / (accepted + (accepted < drafted))
        before = self.chances.get(drafter.name, FIRST_CHANCE)
        self.chances[drafter.name] = before + CHANCE_MEMORY * (share - before)

    def _costs(self, rows: int, drafter: Drafter) -> Costs:
        """Of a draft beside `rows` others in the batch: a token alone would take as long as that batch without it."""
        seconds = self.times.measured if drafter.is_far else self.times.expect
        return Costs(
            seconds(rows),
            lambda count: seconds(rows + count),
            drafter.draft_s,
            drafter.round_trip_s,
        )
