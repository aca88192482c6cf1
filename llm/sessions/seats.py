"""Which session has which sequence of the context: brings it in, parks it on the shelf, cuts and slides what it has.

Who has to go for whom is `tiers`'s.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from llm.sessions.context import Context, ContextFull
from llm.sessions.record import record_of, session_of
from llm.sessions.session import Session
from llm.sessions.shelf import KeptSession, Shelf

logger = logging.getLogger("meshd.sessions")


@dataclass(slots=True)
class Seats:
    """kind: of the context, for states.  parkings, resumptions, rereads, forgotten (states): so far."""

    context: Context
    shelf: Shelf
    kind: str
    parkings: int = 0
    resumptions: int = 0
    rereads: int = 0
    forgotten: int = 0
    _free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = list(range(self.context.settings.sequences))[::-1]

    @property
    def has_free(self) -> bool:
        """Whether there is a sequence that nobody has."""
        return bool(self._free)

    def bring(self, session: Session) -> None:
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

    def park(self, session: Session) -> None:
        """Write its state down and free its sequence. Where the disk fails, its tokens are read again later."""
        assert session.sequence is not None
        self.parkings += 1
        try:
            state = self.context.save(session.sequence)
            session.digest, session.parked_bytes = self.shelf.write_state(session.id, state), len(state)
        except OSError as error:
            logger.warning("session %s… keeps its tokens only: %s", session.id[:26], error)
            session.digest, session.parked_bytes = "", 0
        self.vacate(session)
        self.keep(session)

    def vacate(self, session: Session) -> None:
        """Free its sequence."""
        assert session.sequence is not None
        self.context.cut(session.sequence, 0)
        self._free.append(session.sequence)
        session.sequence = None

    def forget_state(self, session: Session) -> None:
        """Its parked state makes room; its tokens stay."""
        self.forgotten += 1
        self.shelf.forget_state(session.id)
        session.digest, session.parked_bytes = "", 0
        self.keep(session)

    def cut(self, session: Session, length: int) -> None:
        """Have its sequence hold its first `length` cells only."""
        assert session.sequence is not None
        self.context.cut(session.sequence, length)
        del session.cached[length:]

    def slide(self, session: Session, start: int, count: int) -> None:
        """Let `count` cells go from `start` on; what follows moves down. Only where the context can shift."""
        assert session.sequence is not None
        self.context.slide(session.sequence, start, count)
        del session.cached[start : start + count]

    def keep(self, session: Session) -> None:
        """Write the session down."""
        try:
            self.shelf.write(record_of(session, self.kind))
        except OSError as error:
            logger.warning("session %s… is not written down and is lost with this process: %s", session.id[:26], error)

    def take_up(self, now: float) -> list[Session]:
        """The sessions on the shelf: they are parked. States of another kind of context are forgotten."""
        return [session_of(kept, now, self._usable_bytes(kept)) for kept in self.shelf.read_all()]

    def live_bytes(self, session: Session) -> int:
        """What its state takes in the context, measured; 0 while it is not there. No cells are reserved for it."""
        return self.context.live_bytes(session.sequence) if session.sequence is not None else 0

    def _usable_bytes(self, kept: KeptSession) -> int:
        if kept.digest and kept.kind == self.kind:
            return self.shelf.state_bytes(kept.id)
        self.shelf.forget_state(kept.id)
        return 0
