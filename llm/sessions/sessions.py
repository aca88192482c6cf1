"""All sessions of one context: what may be asked of them, and whose they are. Called by one thread.

`decoding` answers them, `seats` keeps them in the context or parked; HTTP is `door`'s.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm.errors import BadRequest
from llm.sessions import description
from llm.sessions.context import Context
from llm.sessions.decoding import Decoding
from llm.sessions.drafter import NGRAM, Drafter
from llm.sessions.far_drafter import FarDrafter
from llm.sessions.names import SessionGone, SessionName, read_name
from llm.sessions.proposals import Proposals
from llm.sessions.seats import Seats
from llm.sessions.session import Listener, Session, Turn, Wish
from llm.sessions.shelf import Shelf
from llm.sessions.tiers import Limits, SessionBusy, check_active, check_room
from llm.sessions.window import Bounds, common


@dataclass(slots=True)
class Sessions:
    """node, model: for their names (`SessionName`).  kind: of the context, for states.  clock: seconds.

    draft_model: of the same vocabulary, in a context of its own.  far: a drafter on another host.
    """

    context: Context
    shelf: Shelf
    clock: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    node: str = "0" * 16
    model: str = "0" * 8
    kind: str = ""
    draft_model: Drafter | None = None
    far: FarDrafter | None = None
    _sessions: dict[str, Session] = field(default_factory=dict)
    _seats: Seats = field(init=False)
    _decoding: Decoding = field(init=False)

    def __post_init__(self) -> None:
        """Take up the sessions on the shelf: they are parked."""
        self._seats = Seats(self.context, self.shelf, self.kind)
        self._decoding = Decoding(
            self._seats, self._sessions, self.clock, self.limits, Proposals(self.context.vocabulary_size)
        )
        self._sessions |= {session.id: session for session in self._seats.take_up(self.clock())}

    @property
    def proposals(self) -> Proposals:
        """What is drafted."""
        return self._decoding.proposals

    def create(self, owner: str, bounds: Bounds | None, draft_model: str = "") -> Session:
        """A new session, empty. draft_model: "" for n-grams. Raises TooManySessions, BadRequest."""
        check_room(self.limits, owner, Counter(session.owner for session in self._sessions.values()))
        if bounds is not None:
            self._check_bounds(bounds)
        self._check_draft_model(draft_model)
        name = str(SessionName(self.node, self.model, secrets.token_hex(12)))
        session = Session(name, owner, bounds, last_used=self.clock(), draft_model=draft_model)
        session.drafting = self.proposals.controller(self.drafter_of(session))
        self._sessions[name] = session
        self._seats.keep(session)
        return session

    def drafter_of(self, session: Session) -> Drafter:
        """Who drafts for it: its draft model, or n-grams where it asked for none, or that is not here any more."""
        here = self.draft_model
        return here if here is not None and here.name == session.draft_model else NGRAM

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
        self._seats.keep(session)

    def replace(self, session: Session, tokens: Sequence[int]) -> None:
        """Let the conversation be `tokens`; what both begin with is not read again. Raises BadRequest, SessionBusy."""
        self.check_idle(session)
        self._check_length(len(tokens))
        session.question = len(tokens) - common(session.tokens, tokens)
        session.tokens = list(tokens)

    def begin(
        self, session: Session, wish: Wish, listener: Listener, drafter: Drafter | None = None, *, is_near: bool = False
    ) -> Turn:
        """Answer the session. drafter: instead of its own.  is_near: and not one on another host.

        Raises BadRequest, SessionBusy, TooManyActive.
        """
        self.check_idle(session)
        check_active(self.limits, len(self._decoding.running) + len(self._decoding.waiting))
        if not session.tokens:
            raise BadRequest("the session is empty: append something first")
        if session.bounds is None and len(session.tokens) >= self.context.cells:
            cells = self.context.cells
            raise BadRequest(f"the session has {len(session.tokens)} tokens; this model's context has {cells} cells")
        turn = Turn(session, wish, listener, drafter or self.drafter_of(session), asked_at=self.clock())
        session.turn = turn
        is_near = is_near or bool(session.draft_model) or wish.temperature > 0
        if self.far is not None and wish.drafts and not is_near:
            turn.far = self.far
            self.far.begin(session.id, session.tokens)
        self._decoding.waiting.append(turn)
        return turn

    def cancel(self, turn: Turn) -> None:
        """Nobody wants the answer any more; what was said of it stays in the conversation."""
        if turn.session.turn is turn:
            self._decoding.end(turn)

    def delete(self, session: Session) -> None:
        """Forget it, and break off its answer."""
        if session.turn is not None:
            self._decoding.finish(session.turn, "error")
        if session.sequence is not None:
            self._seats.vacate(session)
        self.drafter_of(session).forget(session.id)
        if self.far is not None:
            self.far.forget(session.id)
        del self._sessions[session.id]
        self.shelf.remove(session.id)

    def check_idle(self, session: Session) -> None:
        """Raises SessionBusy."""
        if session.turn is not None:
            raise SessionBusy(f"session {session.id[:26]}… is being answered; wait for its end")

    def describe(self, session: Session) -> dict[str, Any]:
        """What GET tells of a session."""
        return description.describe(session, self._seats, self.drafter_of(session))

    def totals(self) -> dict[str, int]:
        """All sessions together."""
        decoding = self._decoding
        return description.totals(self._sessions.values(), self._seats) | {
            "active": len(decoding.running),
            "waiting": len(decoding.waiting),
            "said_tokens": decoding.said_tokens,
            "drafted_tokens": decoding.drafted_tokens,
            "accepted_tokens": decoding.accepted_tokens,
        }

    @property
    def has_work(self) -> bool:
        return self._decoding.has_work

    def step(self) -> bool:
        """Decode one batch; whether there was anything to decode. Raises ContextFailed."""
        return self._decoding.step()

    def park_all(self) -> None:
        """Write everybody's state down, as the process is about to end."""
        for session in [one for one in self._sessions.values() if one.sequence is not None]:
            if session.turn is not None:
                self._decoding.finish(session.turn, "error")
            self._decoding.park(session)

    def _check_length(self, tokens: int) -> None:
        if tokens > self.limits.tokens:
            raise BadRequest(f"a session has {self.limits.tokens} tokens at most; this one would have {tokens}")

    def _check_draft_model(self, name: str) -> None:
        here = self.draft_model.name if self.draft_model is not None else ""
        if name in ("", here):
            return
        has = f"it has {here!r}" if here else "start it with --draft FILE, a small model of the same vocabulary"
        raise BadRequest(f"no draft model {name!r} is beside this model on its node: {has}", param="draft_model")

    def _check_bounds(self, bounds: Bounds) -> None:
        if not self.context.can_cut:
            raise BadRequest("this model folds all tokens into one state: there is no window to keep; use kind full")
        if bounds.most_cells + 1 > self.context.cells:
            raise BadRequest(f"a window of {bounds.most_cells} tokens does not fit into {self.context.cells} cells")
