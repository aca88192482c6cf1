"""Which sessions are in the context, which are parked, and who may have how many. Pure.

Idle ones are parked, longest unused first, when others need their cells or their sequence. What is parked is bounded,
too: beyond it the states of whoever has most are forgotten, oldest first. Their tokens stay, so nothing is lost but the
time to read them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from llm.errors import QueueFull, RequestFailed


class Tier(Enum):
    """Where a session's state is. BOUNDED ones are resident, with less than all of their tokens.

    PARKED is lossless: a state that is bit-exact when it comes back, or the tokens, to be read again.
    """

    RESIDENT = "resident"
    PARKED = "parked"
    BOUNDED = "bounded"


@dataclass(frozen=True, slots=True)
class Limits:
    """sessions: open at a time.  of_owner: of these, by one API key.  active: answers at a time.  parked_bytes: states.

    tokens: of one session.
    """

    sessions: int = 4096
    of_owner: int = 1024
    active: int = 256
    parked_bytes: int = 4 << 30
    tokens: int = 1 << 20


class TooManySessions(QueueFull):
    """As many sessions are open as may be."""

    code = "too_many_sessions"


class TooManyActive(QueueFull):
    """As many sessions are being answered as may be at a time."""

    code = "too_many_active_sessions"


class SessionBusy(RequestFailed):
    """The session is being answered: it takes one question at a time."""

    status = 409
    kind = "invalid_request_error"
    code = "session_busy"
    retry_after_s = 1


@dataclass(frozen=True, slots=True)
class Place:
    """One session in the context, or parked. cells: it has there.  size_bytes: of its parked state."""

    session: str
    owner: str
    is_busy: bool
    last_used: float
    cells: int = 0
    size_bytes: int = 0


def to_park(missing_cells: int, missing_sequences: int, resident: Iterable[Place]) -> tuple[str, ...] | None:
    """Idle sessions to park so that so many cells and sequences are free; None when all of them are not enough."""
    going: list[str] = []
    for place in sorted((one for one in resident if not one.is_busy), key=lambda one: (one.last_used, one.session)):
        if missing_cells <= 0 and missing_sequences <= 0:
            break
        going.append(place.session)
        missing_cells -= place.cells
        missing_sequences -= 1
    return None if missing_cells > 0 or missing_sequences > 0 else tuple(going)


def to_forget(parked: Iterable[Place], limit_bytes: int) -> tuple[str, ...]:
    """Parked states to forget so that the rest takes `limit_bytes` at most: of whoever has most, oldest first."""
    left = sorted(parked, key=lambda one: (one.last_used, one.session))
    by_owner = Counter[str]()
    for place in left:
        by_owner[place.owner] += place.size_bytes
    going: list[str] = []
    while left and sum(by_owner.values()) > limit_bytes:
        greediest = max(by_owner, key=lambda owner: (by_owner[owner], owner))
        oldest = next(one for one in left if one.owner == greediest)
        left.remove(oldest)
        by_owner[greediest] -= oldest.size_bytes
        going.append(oldest.session)
    return tuple(going)


def check_room(limits: Limits, owner: str, owners: Counter[str]) -> None:
    """Raises TooManySessions when `owner` may open no more. owners: how many each has open."""
    if owners.total() >= limits.sessions:
        raise TooManySessions(f"{owners.total()} sessions are open here already; delete some", retry_after_s=10)
    if owners[owner] >= limits.of_owner:
        raise TooManySessions(f"your key has {owners[owner]} sessions open here; delete some", retry_after_s=10)


def check_active(limits: Limits, active: int) -> None:
    """Raises TooManyActive when no more may be answered now."""
    if active >= limits.active:
        raise TooManyActive(f"{active} sessions are being answered; the limit is {limits.active}", retry_after_s=2)
