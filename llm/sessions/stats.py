"""What the sessions of one model take and did, as their child tells its agent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

PREFIX = "meshd_sessions:"


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counts of sessions: open, of these resident (bounded ones too), bounded, parked; active are being answered.

    cells: of the context that they share, reserved from the start.  context_bytes: of all its cells, used or not, 0
    before any was measured; resident_bytes: of those that sessions hold, which is live_bytes: their states, as of
    their last answers; parked_bytes: on disk.
    Since the child began: parkings, resumptions from a state, rereads from tokens, forgotten states (for the quota),
    said_tokens, and of drafts drafted_tokens and accepted_tokens.
    """

    open: int = 0
    resident: int = 0
    bounded: int = 0
    parked: int = 0
    active: int = 0
    waiting: int = 0
    sequences: int = 0
    cells: int = 0
    used_cells: int = 0
    context_bytes: int = 0
    resident_bytes: int = 0
    live_bytes: int = 0
    parked_bytes: int = 0
    parkings: int = 0
    resumptions: int = 0
    rereads: int = 0
    forgotten: int = 0
    said_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def at_rest(self) -> SessionStats:
        """The same once the child has ended: everybody is parked, and nothing is in memory."""
        return replace(
            self,
            **dict.fromkeys(("resident", "bounded", "active", "waiting", "used_cells"), 0),
            **dict.fromkeys(("context_bytes", "resident_bytes", "live_bytes"), 0),
            parked=self.open,
        )


def write_stats(totals: Mapping[str, int]) -> str:
    """A line for each."""
    return "".join(f"{PREFIX}{name} {value}\n" for name, value in totals.items())


def read_stats(text: str) -> SessionStats:
    """What such lines say; what they do not is 0."""
    known = {one.name for one in fields(SessionStats)}
    pairs = (line.removeprefix(PREFIX).split(" ", 1) for line in text.splitlines() if line.startswith(PREFIX))
    return SessionStats(**{pair[0]: int(pair[1]) for pair in pairs if pair[0] in known})
