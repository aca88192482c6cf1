"""What GET tells of a session, and of all of them together. Pure but for the sizes that the context measures."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from llm.sessions.drafter import Drafter
from llm.sessions.seats import Seats
from llm.sessions.session import Session
from llm.sessions.tiers import Tier

BOUNDED_NOTE = "bounded: recall of what left the window is as good as a lexical search; not full attention's output"


def describe(session: Session, seats: Seats, drafter: Drafter) -> dict[str, Any]:
    """live_bytes: its state, measured.  resident_bytes: of the cells that it holds, which is the same, for all sessions
    share one context and none has cells in reserve.  host_bytes: its token ids.
    """
    live_bytes = seats.live_bytes(session)
    about: dict[str, Any] = {
        "id": session.id,
        "object": "session",
        "tier": tier_of(session).value,
        "tokens": len(session.tokens),
        "cells": len(session.cached) if session.sequence is not None else 0,
        "resident_bytes": live_bytes,
        "live_bytes": live_bytes,
        "parked_bytes": session.parked_bytes,
        "host_bytes": 4 * len(session.tokens),
        "is_busy": session.turn is not None,
        "draft": {
            "by": drafter.name,
            "state": session.drafting.state.value,
            "speedup": round(session.drafting.speedup, 3),
        },
        "policy": _policy(session),
    }
    if (far := session.far_drafting) is not None:
        about["far_draft"] = {"state": far.state.value, "speedup": round(far.speedup, 3)}
    return about | ({"note": BOUNDED_NOTE} if session.bounds is not None else {})


def tier_of(session: Session) -> Tier:
    if session.sequence is None:
        return Tier.PARKED
    return Tier.BOUNDED if session.bounds else Tier.RESIDENT


def totals(sessions: Collection[Session], seats: Seats) -> dict[str, int]:
    """What `stats.SessionStats` says."""
    resident = [session for session in sessions if session.sequence is not None]
    measured = [session for session in resident if session.state_bytes and session.state_cells]
    # Measuring takes a call of llama.cpp, and a session may have more or fewer cells by now than it was measured with.
    live_bytes = sum(session.state_bytes * len(session.cached) // session.state_cells for session in measured)
    return {
        "open": len(sessions),
        "resident": len(resident),
        "bounded": sum(session.bounds is not None for session in resident),
        "parked": len(sessions) - len(resident),
        "cells": seats.context.cells,
        "used_cells": sum(len(session.cached) for session in resident),
        "sequences": seats.context.settings.sequences,
        "context_bytes": _cells_bytes(seats.context.cells, measured),
        "resident_bytes": live_bytes,
        "live_bytes": live_bytes,
        "parked_bytes": sum(session.parked_bytes for session in sessions),
        "parkings": seats.parkings,
        "resumptions": seats.resumptions,
        "rereads": seats.rereads,
        "forgotten": seats.forgotten,
    }


def _cells_bytes(cells: int, measured: Collection[Session]) -> int:
    """So many cells, as those take of which states were measured; 0 before any was."""
    measured_cells = sum(session.state_cells for session in measured)
    return cells * sum(session.state_bytes for session in measured) // measured_cells if measured_cells else 0


def _policy(session: Session) -> dict[str, Any]:
    bounds, drafts = session.bounds, {"draft_model": session.draft_model} if session.draft_model else {}
    if bounds is None:
        return {"kind": "full", **drafts}
    return {"kind": "bounded", "sink": bounds.sink, "window": bounds.window, "spans": bounds.spans, **drafts}
