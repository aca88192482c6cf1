"""A session as it is written down, and back. Pure; where it is written is `shelf`'s."""

from __future__ import annotations

from array import array

from llm.sessions.session import Session
from llm.sessions.shelf import KeptSession
from llm.sessions.window import Bounds


def record_of(session: Session, kind: str) -> KeptSession:
    """kind: of the context that its state is of, where it has one parked."""
    bounds = session.bounds
    is_parked = bool(session.digest) and session.sequence is None
    return KeptSession(
        id=session.id,
        owner=session.owner,
        tokens=pack(session.tokens),
        cached=pack(session.cached) if is_parked else b"",
        digest=session.digest if is_parked else "",
        kind=kind,
        bounds=(bounds.sink, bounds.window, bounds.spans) if bounds else None,
        draft_model=session.draft_model,
    )


def session_of(kept: KeptSession, now: float, state_bytes: int) -> Session:
    """The session, parked. state_bytes: of its state; 0 where there is none that fits, so that it is read again."""
    return Session(
        kept.id,
        kept.owner,
        Bounds(*kept.bounds) if kept.bounds else None,
        tokens=unpack(kept.tokens),
        cached=unpack(kept.cached) if state_bytes else [],
        digest=kept.digest if state_bytes else "",
        parked_bytes=state_bytes,
        last_used=now,
        draft_model=kept.draft_model,
    )


def pack(tokens: list[int]) -> bytes:
    return array("i", tokens).tobytes()


def unpack(raw: bytes) -> list[int]:
    tokens = array("i")
    tokens.frombytes(raw)
    return tokens.tolist()
