"""Decodes one batch after another: whose tokens are next, who is parked for them, and what each answer is told.

Called by one thread. What is decided where is in `tiers`, `shares`, `window`, `drafting`, `accept`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llm.sessions.accept import Verdict
from llm.sessions.answering import judge, say
from llm.sessions.batch import Work, calls_of, compose, rows_of
from llm.sessions.context import ContextFull
from llm.sessions.proposals import Proposals
from llm.sessions.sampling import Logits
from llm.sessions.seats import Seats
from llm.sessions.session import Said, Session, Turn
from llm.sessions.tiers import Limits, Place, to_forget, to_park
from llm.sessions.window import common, view


@dataclass(slots=True)
class Decoding:
    """sessions: all there are, by their names.  clock: seconds."""

    seats: Seats
    sessions: Mapping[str, Session]
    clock: Callable[[], float]
    limits: Limits
    proposals: Proposals
    running: list[Turn] = field(default_factory=list)
    waiting: list[Turn] = field(default_factory=list)
    decoded_tokens: int = 0
    said_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def step(self) -> bool:
        """Decode one batch; whether there was anything to decode. Raises ContextFailed."""
        self._admit()
        works = self._plan()
        if not works:
            return False
        rows = sum(work.rows for work in works)
        try:
            took_s = sum(self._decode(call) for call in calls_of(works, self.seats.context.most_mixed_rows))
        except ContextFull:
            # Cells are counted here, so only a gap that llama.cpp cannot use leads here; fewer turns need less of it.
            return self._give_way()
        self.proposals.times.note(rows, took_s)
        return True

    def finish(self, turn: Turn, reason: str) -> None:
        """Tell the end of an answer."""
        turn.ended_at = self.clock()
        turn.listener.tell(Said(turn.pieces.end(), 0, reason))
        self.end(turn)

    def end(self, turn: Turn) -> None:
        """Let the turn go; what was said of it stays in the conversation."""
        session = turn.session
        session.turn = None
        session.last_used = self.clock()
        for turns in (self.running, self.waiting):
            if turn in turns:
                turns.remove(turn)
        if session.sequence is not None:
            # A draft's tail may still be there.
            if self.seats.context.can_cut:
                self.seats.cut(session, len(session.cached))
            session.state_bytes, session.state_cells = self.seats.live_bytes(session), len(session.cached)
        self.seats.keep(session)

    def park(self, session: Session) -> None:
        """Park it, and forget what states are too many then."""
        self.seats.park(session)
        parked = [
            Place(one.id, one.owner, False, one.last_used, 0, one.parked_bytes)
            for one in self.sessions.values()
            if one.parked_bytes
        ]
        for name in to_forget(parked, self.limits.parked_bytes):
            self.seats.forget_state(self.sessions[name])

    # Who is in the context

    def _admit(self) -> None:
        """Let those who wait into the context, first come first served, while there is or can be made room."""
        while self.waiting:
            turn = self.waiting[0]
            wanted = turn.wanted or view(turn.session.tokens, turn.session.question, turn.session.bounds)
            if not self._make_room(len(wanted) + 1, turn.session):
                return
            self.waiting.pop(0)
            self.seats.bring(turn.session)
            self._prepare(turn, wanted)
            self.running.append(turn)

    def _make_room(self, cells: int, session: Session) -> bool:
        """Park idle sessions until `session` could have `cells`; whether it can."""
        here = [place for place in self._places() if place.session != session.id]
        # Who runs will say more; at least what is unread of it is known.
        used = sum(place.cells for place in here) + sum(len(turn.unread) for turn in self.running)
        needed = max(cells, len(session.cached))
        needs_sequence = session.sequence is None and not self.seats.has_free
        going = to_park(used + needed - self.seats.context.cells, int(needs_sequence), here)
        for name in going or ():
            self.park(self.sessions[name])
        return going is not None

    def _prepare(self, turn: Turn, wanted: list[int]) -> None:
        """Keep what the context has of `wanted`, and have the rest read. The last token is always read: it answers."""
        session, can_cut = turn.session, self.seats.context.can_cut
        kept = min(common(session.cached, wanted), len(wanted) - 1)
        if not can_cut and kept < len(session.cached):
            kept = 0
        if can_cut or not kept:
            self.seats.cut(session, kept)
        turn.unread, turn.is_admitted = wanted[kept:], True
        if not turn.wanted:
            turn.reused, turn.read = kept, len(wanted) - kept
        session.question = 0

    def _places(self) -> list[Place]:
        """The sessions in the context. Busy are those whose answer is being decoded, not those that wait for it."""
        return [
            Place(one.id, one.owner, one.turn is not None and one.turn.is_admitted, one.last_used, len(one.cached))
            for one in self.sessions.values()
            if one.sequence is not None
        ]

    def _give_way(self) -> bool:
        """Take the one that came last out of the context, to go on when there is room; the only one is ended."""
        turn = self.running[-1]
        if len(self.running) == 1:
            self.finish(turn, "length")
            return bool(self.waiting)
        self.running.remove(turn)
        turn.is_admitted, turn.wanted = False, [*turn.session.cached, *turn.unread]
        self.waiting.insert(0, turn)
        self.park(turn.session)
        return True

    # One batch

    def _plan(self) -> list[Work]:
        turns = [turn for turn in self.running if turn.listener.has_room and not self._awaits_draft(turn)]
        room = min(self.seats.context.settings.rows, self._free_cells(turns))
        if room < len(turns):
            return self._plan() if self._give_way() else []
        works = compose(turns, room)
        if self.seats.context.can_cut:  # else what is refused of a draft could not be taken back
            self.proposals.add(works, room, self.clock())
        return works

    def _decode(self, works: list[Work]) -> float:
        """One call of llama.cpp, and what its logits say; the seconds that the call took. Raises ContextFull."""
        rows = [row for work in works for row in rows_of(work)]
        began = self.clock()
        logits = self.seats.context.decode(rows)
        took_s = self.clock() - began
        self.decoded_tokens += len(rows)
        taken = 0
        for work in works:
            count = work.answers
            self._take(work, logits[taken : taken + count])
            taken += count
        return took_s

    def _awaits_draft(self, turn: Turn) -> bool:
        return self.seats.context.can_cut and self.proposals.sits_out(turn, len(self.running), self.clock())

    def _free_cells(self, turns: list[Turn]) -> int:
        """Cells for the next batch: slides the windows that are full, and parks who is idle."""
        for turn in turns:
            self._slide(turn)
        context = self.seats.context
        used = sum(len(one.cached) for one in self.sessions.values() if one.sequence is not None)
        wanted = sum(len(turn.unread) for turn in turns)
        missing = used + min(wanted, context.settings.rows) - context.cells
        if missing > 0:
            for name in to_park(missing, 0, self._places()) or ():
                used -= len(self.sessions[name].cached)
                self.park(self.sessions[name])
        free: int = context.cells - used
        return free

    def _slide(self, turn: Turn) -> None:
        """Let the oldest of a full window go; where the model cannot shift, read the window anew."""
        session, bounds = turn.session, turn.session.bounds
        if bounds is None or len(turn.unread) != 1 or len(session.cached) < bounds.most_cells:
            return
        if self.seats.context.can_shift:
            self.seats.slide(session, bounds.sink, bounds.slide_tokens)
            return
        self.seats.cut(session, bounds.sink)
        turn.unread = view(session.tokens, 0, bounds)[bounds.sink :]

    def _take(self, work: Work, logits: list[Logits]) -> None:
        """Note what was read, and say what the logits say."""
        turn, session = work.turn, work.turn.session
        session.cached += turn.unread[: work.count]
        last = turn.unread[work.count - 1]
        turn.unread = turn.unread[work.count :]
        if turn.unread:
            return
        if not turn.wish.most_tokens:
            self.finish(turn, "length")
            return
        verdict = judge(turn, work.draft, logits)
        self._note_draft(work, verdict)
        accepted = list(work.draft[: verdict.accepted])
        session.cached += accepted
        self._say(turn, accepted if verdict.following is None else [*accepted, verdict.following])
        if session.turn is turn:
            self._go_on(work, verdict, accepted[-1] if accepted else last)

    def _note_draft(self, work: Work, verdict: Verdict) -> None:
        if not work.draft or work.by is None:
            return
        turn, drafted = work.turn, len(work.draft)
        turn.drafted += drafted
        turn.accepted += verdict.accepted
        self.drafted_tokens += drafted
        self.accepted_tokens += verdict.accepted
        turn.blocks += 1
        self.proposals.note(turn, work.by, drafted, verdict.accepted, len(self.running), self.clock())

    def _say(self, turn: Turn, tokens: list[int]) -> None:
        turn.first_at = turn.first_at or self.clock()
        said = turn.said
        finish = say(turn, tokens, self.seats.context, self.limits.tokens)
        self.said_tokens += turn.said - said
        if finish:
            self.finish(turn, finish)

    def _go_on(self, work: Work, verdict: Verdict, last: int) -> None:
        """Have the next token read, and take back what was refused of the draft. last: token that stands."""
        turn, session = work.turn, work.turn.session
        if verdict.following is None:
            # That row is decoded again: it is the last accepted token's, or the one before the draft.
            turn.unread, turn.alone = [last], True
            self.seats.cut(session, len(session.cached) - 1)
            return
        turn.unread = [verdict.following]
        if work.draft:
            self.seats.cut(session, len(session.cached))
