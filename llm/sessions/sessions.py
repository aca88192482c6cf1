"""Many sessions in one context: whose tokens are decoded next, who is parked for it, and what an answer says.

Called by one thread: `step` decodes one batch for all who are being answered. What is decided where is in `tiers`,
`shares`, `window`, `accept`; HTTP is `door`'s.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm.errors import BadRequest
from llm.sessions import sampling
from llm.sessions.accept import Verdict, settle
from llm.sessions.context import Context, ContextFull, Logits, Row
from llm.sessions.drafting import BatchTimes, Costs, Drafting
from llm.sessions.names import SessionGone, SessionName, read_name
from llm.sessions.ngram import propose
from llm.sessions.session import Draft, Listener, Said, Session, Turn, Wish
from llm.sessions.shares import share_rows
from llm.sessions.shelf import KeptSession, Shelf, pack, unpack
from llm.sessions.tiers import Limits, Place, SessionBusy, Tier, check_active, check_room, to_forget, to_park
from llm.sessions.window import Bounds, common, view

logger = logging.getLogger("meshd.sessions")

CHANCE_MEMORY = 0.05
"""Share of the latest block in what new sessions are told of drafts."""
SEEN_ANEW = 16
"""One of so many new sessions drafts whatever became of others' drafts, or a bad hour would end them for ever."""
NO_DRAFT: tuple[int, ...] = ()


@dataclass(slots=True)
class _Work:
    """One turn's part of a batch: `count` tokens of what it has not read, and a draft behind the last of them."""

    turn: Turn
    count: int
    draft: Sequence[int] = NO_DRAFT

    @property
    def is_complete(self) -> bool:
        return self.count == len(self.turn.unread)

    @property
    def rows(self) -> int:
        return self.count + len(self.draft)


@dataclass(slots=True)
class Sessions:
    """All sessions of one context. node, model: for their names (`SessionName`).  kind: of the context, for states.

    clock: seconds.
    """

    context: Context
    shelf: Shelf
    clock: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    node: str = "0" * 16
    model: str = "0" * 8
    kind: str = ""
    _sessions: dict[str, Session] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)
    _running: list[Turn] = field(default_factory=list)
    _waiting: list[Turn] = field(default_factory=list)
    times: BatchTimes = field(default_factory=BatchTimes)
    chance: float = 2 / 3
    _opened: int = 0
    decoded_tokens: int = 0
    said_tokens: int = 0
    parkings: int = 0
    resumptions: int = 0
    rereads: int = 0

    def __post_init__(self) -> None:
        """Take up the sessions on the shelf: they are parked."""
        self._free = list(range(self.context.settings.sequences))[::-1]
        for kept in self.shelf.read_all():
            self._sessions[kept.id] = self._taken_up(kept)

    # What people ask for

    def create(self, owner: str, bounds: Bounds | None) -> Session:
        """A new session, empty. Raises TooManySessions, BadRequest."""
        check_room(self.limits, owner, Counter(session.owner for session in self._sessions.values()))
        if bounds is not None:
            self._check_bounds(bounds)
        name = str(SessionName(self.node, self.model, secrets.token_hex(12)))
        session = self._sessions[name] = Session(name, owner, bounds, last_used=self.clock(), drafting=self._drafting())
        self._keep(session)
        return session

    def _drafting(self) -> Drafting:
        """A new session's: what others' drafts were worth, but now and then it is seen anew."""
        self._opened += 1
        return Drafting() if self._opened % SEEN_ANEW == 0 else Drafting.after(self.chance)

    def find(self, name: str, owner: str) -> Session:
        """The session of that name. Raises NotASession, SessionGone, also for somebody else's."""
        read_name(name)
        session = self._sessions.get(name)
        if session is None or session.owner != owner:
            raise SessionGone(f"session {name[:26]}… is not here any more; begin another with POST /v1/sessions")
        return session

    def owned_by(self, owner: str) -> list[Session]:
        return [session for session in self._sessions.values() if session.owner == owner]

    def append(self, session: Session, tokens: Sequence[int]) -> None:
        """Let the conversation go on with `tokens`, which its next answer reads. Raises BadRequest, SessionBusy."""
        self.check_idle(session)
        self._check_length(len(session.tokens) + len(tokens))
        session.tokens += tokens
        session.question += len(tokens)
        session.last_used = self.clock()
        self._keep(session)

    def replace(self, session: Session, tokens: Sequence[int]) -> None:
        """Let the conversation be `tokens`; what both begin with is not read again. Raises BadRequest, SessionBusy."""
        self.check_idle(session)
        self._check_length(len(tokens))
        session.question = len(tokens) - common(session.tokens, tokens)
        session.tokens = list(tokens)

    def begin(self, session: Session, wish: Wish, listener: Listener, draft: Draft = propose) -> Turn:
        """Answer the session. Raises BadRequest, SessionBusy, TooManyActive."""
        self.check_idle(session)
        check_active(self.limits, len(self._running) + len(self._waiting))
        if not session.tokens:
            raise BadRequest("the session is empty: append something first")
        if session.bounds is None and len(session.tokens) >= self.context.cells:
            cells = self.context.cells
            raise BadRequest(f"the session has {len(session.tokens)} tokens; this model's context has {cells} cells")
        turn = Turn(session, wish, listener, draft, asked_at=self.clock())
        session.turn = turn
        self._waiting.append(turn)
        return turn

    def cancel(self, turn: Turn) -> None:
        """Nobody wants the answer any more; what was said of it stays in the conversation."""
        if turn.session.turn is turn:
            self._end(turn)

    def delete(self, session: Session) -> None:
        """Forget it, and break off its answer."""
        if session.turn is not None:
            self._finish(session.turn, "error")
        if session.sequence is not None:
            self._vacate(session)
        del self._sessions[session.id]
        self.shelf.remove(session.id)

    def check_idle(self, session: Session) -> None:
        """Raises SessionBusy."""
        if session.turn is not None:
            raise SessionBusy(f"session {session.id[:26]}… is being answered; wait for its end")

    def describe(self, session: Session) -> dict[str, Any]:
        """What GET tells of a session. resident_bytes: of the cells that it holds.  live_bytes: its state, measured."""
        tier = Tier.PARKED if session.sequence is None else Tier.BOUNDED if session.bounds else Tier.RESIDENT
        about: dict[str, Any] = {
            "id": session.id,
            "object": "session",
            "tier": tier.value,
            "tokens": len(session.tokens),
            "cells": len(session.cached) if session.sequence is not None else 0,
            "resident_bytes": self._resident_bytes(session),
            "live_bytes": self.context.live_bytes(session.sequence) if session.sequence is not None else 0,
            "parked_bytes": session.parked_bytes,
            "host_bytes": 4 * len(session.tokens),
            "is_busy": session.turn is not None,
            "draft": {"state": session.drafting.state.value, "speedup": round(session.drafting.speedup, 3)},
            "policy": _policy_json(session.bounds),
        }
        if session.bounds is not None:
            about["note"] = (
                "bounded: recall of what left the window is as good as a lexical search; not full attention's output"
            )
        return about

    def totals(self) -> dict[str, Any]:
        """All sessions together. reserved_bytes: what the context's cells take, used or not."""
        sessions = self._sessions.values()
        resident = [session for session in sessions if session.sequence is not None]
        return {
            "open": len(sessions),
            "resident": len(resident),
            "parked": len(sessions) - len(resident),
            "active": len(self._running),
            "waiting": len(self._waiting),
            "cells": self.context.cells,
            "used_cells": sum(len(session.cached) for session in resident),
            "sequences": self.context.settings.sequences,
            "live_bytes": sum(session.state_bytes for session in resident),
            "parked_bytes": sum(session.parked_bytes for session in sessions),
            "parkings": self.parkings,
            "resumptions": self.resumptions,
            "rereads": self.rereads,
            "said_tokens": self.said_tokens,
        }

    # Decoding

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    def step(self) -> bool:
        """Decode one batch; whether there was anything to decode. Raises ContextFailed."""
        self._admit()
        works = self._plan()
        if not works:
            return False
        rows = [row for work in works for row in _rows(work)]
        began = self.clock()
        try:
            logits = self.context.decode(rows)
        except ContextFull:
            # Cells are counted here, so only a gap that llama.cpp cannot use leads here; fewer turns need less of it.
            return self._give_way()
        self.times.note(len(rows), self.clock() - began)
        self.decoded_tokens += len(rows)
        taken = 0
        for work in works:
            count = len(work.draft) + 1 if work.is_complete and work.turn.wish.most_tokens else 0
            self._take(work, logits[taken : taken + count])
            taken += count
        return True

    def park_all(self) -> None:
        """Write everybody's state down, as the process is about to end."""
        for session in [one for one in self._sessions.values() if one.sequence is not None]:
            if session.turn is not None:
                self._finish(session.turn, "error")
            self._park(session)

    def _admit(self) -> None:
        """Let those who wait into the context, first come first served, while there is or can be made room."""
        while self._waiting:
            turn = self._waiting[0]
            wanted = turn.wanted or view(turn.session.tokens, turn.session.question, turn.session.bounds)
            if not self._make_room(len(wanted) + 1, turn.session):
                return
            self._waiting.pop(0)
            self._bring(turn.session)
            self._prepare(turn, wanted)
            self._running.append(turn)

    def _make_room(self, cells: int, session: Session) -> bool:
        """Park idle sessions until `session` could have `cells`; whether it can."""
        here = [place for place in self._places() if place.session != session.id]
        # Who runs will say more; at least what is unread of it is known.
        used = sum(place.cells for place in here) + sum(len(turn.unread) for turn in self._running)
        needed = max(cells, len(session.cached))
        needs_sequence = session.sequence is None and not self._free
        going = to_park(used + needed - self.context.cells, int(needs_sequence), here)
        if going is None:
            return False
        for name in going:
            self._park(self._sessions[name])
        return True

    def _bring(self, session: Session) -> None:
        """Give it a sequence, with its parked state where there is one that fits."""
        if session.sequence is not None:
            return
        session.sequence = self._free.pop()
        if not session.cached:
            return
        state = self.shelf.read_state(session.id, session.digest) if session.digest else None
        try:
            if state is None:
                raise ContextFull("there is no state")
            self.context.restore(session.sequence, state)
            self.shelf.forget_state(session.id)
            session.digest, session.parked_bytes = "", 0
            self.resumptions += 1
        except ContextFull:
            self.rereads += 1
            session.cached = []

    def _prepare(self, turn: Turn, wanted: list[int]) -> None:
        """Keep what the context has of `wanted`, and have the rest read. The last token is always read: it answers."""
        session = turn.session
        kept = min(common(session.cached, wanted), len(wanted) - 1)
        if not self.context.can_cut and kept < len(session.cached):
            kept = 0
        if self.context.can_cut or not kept:
            self._cut(session, kept)
        turn.unread, turn.is_admitted = wanted[kept:], True
        if not turn.wanted:
            turn.reused, turn.read = kept, len(wanted) - kept
        session.question = 0

    def _plan(self) -> list[_Work]:
        turns = [turn for turn in self._running if turn.listener.has_room]
        room = min(self.context.settings.rows, self._free_cells(turns))
        if room < len(turns):
            return self._after_giving_way()
        shares = share_rows([len(turn.unread) for turn in turns], room)
        works = [_Work(turn, share) for turn, share in zip(turns, shares, strict=True) if share]
        rows = sum(shares)
        for work in works:
            work.draft = self._draft(work, rows, (room - rows) // len(works))
        return works

    def _free_cells(self, turns: list[Turn]) -> int:
        """Cells for the next batch: slides the windows that are full, and parks who is idle."""
        for turn in turns:
            self._slide(turn)
        used = sum(len(one.cached) for one in self._sessions.values() if one.sequence is not None)
        wanted = sum(len(turn.unread) for turn in turns)
        missing = used + min(wanted, self.context.settings.rows) - self.context.cells
        if missing > 0:
            for name in to_park(missing, 0, self._places()) or ():
                used -= len(self._sessions[name].cached)
                self._park(self._sessions[name])
        free: int = self.context.cells - used
        return free

    def _after_giving_way(self) -> list[_Work]:
        return self._plan() if self._give_way() else []

    def _places(self) -> list[Place]:
        """The sessions in the context. Busy are those whose answer is being decoded, not those that wait for it."""
        return [
            Place(one.id, one.owner, one.turn is not None and one.turn.is_admitted, one.last_used, len(one.cached))
            for one in self._sessions.values()
            if one.sequence is not None
        ]

    def _give_way(self) -> bool:
        """Take the one that came last out of the context, to go on when there is room; the only one is ended."""
        turn = self._running[-1]
        if len(self._running) == 1:
            self._finish(turn, "length")
            return bool(self._waiting)
        self._running.remove(turn)
        session = turn.session
        turn.is_admitted, turn.wanted = False, [*session.cached, *turn.unread]
        self._waiting.insert(0, turn)
        self._park(session)
        return True

    def _slide(self, turn: Turn) -> None:
        """Let the oldest of a full window go; where the model cannot shift, read the window anew."""
        session, bounds = turn.session, turn.session.bounds
        if bounds is None or len(turn.unread) != 1 or len(session.cached) < bounds.most_cells:
            return
        count = bounds.slide_tokens
        if self.context.can_shift:
            assert session.sequence is not None
            self.context.slide(session.sequence, bounds.sink, count)
            del session.cached[bounds.sink : bounds.sink + count]
        else:
            wanted = view(session.tokens, 0, bounds)
            self._cut(session, bounds.sink)
            turn.unread = wanted[bounds.sink :]

    def _draft(self, work: _Work, rows: int, room: int) -> Sequence[int]:
        """What the turn drafts, beside the `rows` of all that is certain."""
        turn = work.turn
        if not turn.wish.drafts or turn.wish.temperature > 0 or not work.is_complete or not turn.said:
            return NO_DRAFT
        if turn.alone:
            turn.alone = False
            return NO_DRAFT
        left = turn.wish.most_tokens - turn.said - 1
        if not self.context.can_cut:
            return NO_DRAFT  # what is refused of a draft could not be taken back
        drafting, now = turn.session.drafting, self.clock()
        count = min(drafting.most, room, left)
        if count <= 0 or drafting.rests(now):
            return NO_DRAFT
        # Asked for first: most often there is none, which is sooner known than whether one would pay.
        proposed = turn.draft(turn.session.tokens, count)
        return proposed[: min(count, drafting.choose(self._costs(rows), now).count)] if proposed else NO_DRAFT

    def _note_draft(self, session: Session, drafted: int, accepted: int) -> None:
        session.drafting.note(drafted, accepted, self._costs(len(self._running)), self.clock())
        share = accepted / (accepted + (accepted < drafted))
        self.chance += CHANCE_MEMORY * (share - self.chance)

    def _costs(self, rows: int) -> Costs:
        """Of a draft beside `rows` others in the batch: a token alone would take as long as that batch without it."""
        return Costs(self.times.expect(rows), lambda count: self.times.expect(rows + count))

    def _take(self, work: _Work, logits: list[Logits]) -> None:
        """Note what was read, and say what the logits say."""
        turn, session = work.turn, work.turn.session
        session.cached += turn.unread[: work.count]
        last = turn.unread[work.count - 1]
        turn.unread = turn.unread[work.count :]
        if turn.unread:
            return
        if not turn.wish.most_tokens:
            self._finish(turn, "length")
            return
        verdict = self._verdict(work, logits)
        if work.draft:
            turn.drafted += len(work.draft)
            turn.accepted += verdict.accepted
            turn.blocks += 1
            self._note_draft(session, len(work.draft), verdict.accepted)
        accepted = list(work.draft[: verdict.accepted])
        session.cached += accepted
        self._say(turn, accepted if verdict.following is None else [*accepted, verdict.following])
        if session.turn is not turn:
            return
        if verdict.following is None:
            # That row is decoded again: it is the last accepted token's, or the one before the draft.
            last = accepted[-1] if accepted else last
            turn.unread, turn.alone = [last], True
            self._cut(session, len(session.cached) - 1)
            return
        turn.unread = [verdict.following]
        if work.draft:
            self._cut(session, len(session.cached))

    def _verdict(self, work: _Work, logits: list[Logits]) -> Verdict:
        wish = work.turn.wish
        if wish.temperature > 0:
            return Verdict(0, sampling.sample(logits[0], wish.temperature, wish.top_p, work.turn.dice))
        margins = [sampling.margin(row) for row in logits] if wish.least_margin and work.draft else []
        return settle(
            work.draft, [sampling.best(row) for row in logits], margins or [0.0] * len(logits), wish.least_margin
        )

    def _say(self, turn: Turn, tokens: list[int]) -> None:
        """Add tokens to the conversation and tell them, up to the end that the model or the wish sets."""
        turn.first_at = turn.first_at or self.clock()
        for token in tokens:
            turn.session.tokens.append(token)
            turn.said += 1
            self.said_tokens += 1
            if self.context.is_end(token):
                self._finish(turn, "stop")
                return
            text = turn.pieces.feed(self.context.piece(token))
            if turn.pieces.is_stopped:
                turn.listener.tell(Said(text, 1))
                self._finish(turn, "stop")
                return
            turn.listener.tell(Said(text, 1))
            if turn.said >= turn.wish.most_tokens or len(turn.session.tokens) >= self.limits.tokens:
                self._finish(turn, "length")
                return

    def _finish(self, turn: Turn, reason: str) -> None:
        turn.ended_at = self.clock()
        turn.listener.tell(Said(turn.pieces.end(), 0, reason))
        self._end(turn)

    def _end(self, turn: Turn) -> None:
        session = turn.session
        session.turn = None
        session.last_used = self.clock()
        for turns in (self._running, self._waiting):
            if turn in turns:
                turns.remove(turn)
        if session.sequence is not None:
            # A draft's tail may still be there.
            if self.context.can_cut:
                self._cut(session, len(session.cached))
            session.state_bytes = self.context.live_bytes(session.sequence)
        self._keep(session)

    # Parking

    def _park(self, session: Session) -> None:
        """Write its state down and free its sequence. Where the disk fails, its tokens are read again later."""
        assert session.sequence is not None
        self.parkings += 1
        try:
            state = self.context.save(session.sequence)
            session.digest, session.parked_bytes = self.shelf.write_state(session.id, state), len(state)
        except OSError as error:
            logger.warning("session %s… keeps its tokens only: %s", session.id[:26], error)
            session.digest, session.parked_bytes = "", 0
        self._vacate(session)
        self._keep(session)
        self._forget_excess()

    def _forget_excess(self) -> None:
        parked = [
            Place(one.id, one.owner, False, one.last_used, 0, one.parked_bytes)
            for one in self._sessions.values()
            if one.parked_bytes
        ]
        for name in to_forget(parked, self.limits.parked_bytes):
            session = self._sessions[name]
            self.shelf.forget_state(name)
            session.digest, session.parked_bytes = "", 0
            self._keep(session)

    def _vacate(self, session: Session) -> None:
        assert session.sequence is not None
        self.context.cut(session.sequence, 0)
        self._free.append(session.sequence)
        session.sequence = None

    def _cut(self, session: Session, length: int) -> None:
        assert session.sequence is not None
        self.context.cut(session.sequence, length)
        del session.cached[length:]

    def _keep(self, session: Session) -> None:
        bounds = session.bounds
        kept = KeptSession(
            id=session.id,
            owner=session.owner,
            tokens=pack(session.tokens),
            cached=pack(session.cached) if session.digest and session.sequence is None else b"",
            digest=session.digest if session.sequence is None else "",
            kind=self.kind,
            bounds=(bounds.sink, bounds.window, bounds.spans) if bounds else None,
        )
        try:
            self.shelf.write(kept)
        except OSError as error:
            logger.warning("session %s… is not written down and is lost with this process: %s", session.id[:26], error)

    def _taken_up(self, kept: KeptSession) -> Session:
        is_usable = bool(kept.digest) and kept.kind == self.kind
        if not is_usable:
            self.shelf.forget_state(kept.id)
        return Session(
            kept.id,
            kept.owner,
            Bounds(*kept.bounds) if kept.bounds else None,
            tokens=unpack(kept.tokens),
            cached=unpack(kept.cached) if is_usable else [],
            digest=kept.digest if is_usable else "",
            parked_bytes=self.shelf.state_bytes(kept.id) if is_usable else 0,
            last_used=self.clock(),
        )

    def _resident_bytes(self, session: Session) -> int:
        """Cells times what a token takes, which only a measured state tells."""
        if session.sequence is None or not session.cached:
            return 0
        cells = -(-len(session.cached) // 256) * 256
        return int(cells * self.context.live_bytes(session.sequence) // len(session.cached))

    def _check_length(self, tokens: int) -> None:
        if tokens > self.limits.tokens:
            raise BadRequest(f"a session has {self.limits.tokens} tokens at most; this one would have {tokens}")

    def _check_bounds(self, bounds: Bounds) -> None:
        if not self.context.can_cut:
            raise BadRequest("this model folds all tokens into one state: there is no window to keep; use kind full")
        if bounds.most_cells + 1 > self.context.cells:
            raise BadRequest(f"a window of {bounds.most_cells} tokens does not fit into {self.context.cells} cells")


def _rows(work: _Work) -> list[Row]:
    """The rows of one turn: logits are wanted of the last token and of every drafted one."""
    turn = work.turn
    sequence, start = turn.session.sequence, len(turn.session.cached)
    assert sequence is not None
    tokens = [*turn.unread[: work.count], *work.draft]
    answers_from = work.count - 1 if work.is_complete and turn.wish.most_tokens else len(tokens)
    return [Row(sequence, token, start + index, index >= answers_from) for index, token in enumerate(tokens)]


def _policy_json(bounds: Bounds | None) -> dict[str, Any]:
    if bounds is None:
        return {"kind": "full"}
    return {"kind": "bounded", "sink": bounds.sink, "window": bounds.window, "spans": bounds.spans}
