"""Decides when to ping a connection and when its silence means that it is gone.

aioquic pings only when told and waits its whole idle time (120 s) for an answer. A living peer acknowledges
anything within milliseconds, so what counts is how long the oldest unanswered thing we sent has waited.
"""

from __future__ import annotations

from enum import Enum

PING_EVERY_S = 10.0
SILENCE_S = 4.0
"""At 30 % loss, six retransmissions and their acknowledgements all fail once in some thousand times."""

PAUSE_S = 2.0
"""A gap between two checks that says we ourselves were stopped (suspended, starved)."""


class Verdict(Enum):
    FINE = "fine"
    PING = "ping"
    SILENT = "silent"


class Liveness:
    """One connection's signs of life. Times are the loop's."""

    __slots__ = ("_checked_at", "_pinged_at", "unanswered_since")

    def __init__(self, now: float) -> None:
        self.unanswered_since: float | None = None
        self._pinged_at = now
        self._checked_at = now

    def asked(self, now: float) -> None:
        """Something was sent that the peer must acknowledge."""
        if self.unanswered_since is None:
            self.unanswered_since = now

    def heard(self) -> None:
        """Anything at all came from the peer."""
        self.unanswered_since = None

    def check(self, now: float) -> Verdict:
        """Judge the connection; call at least every second."""
        gap_s = now - self._checked_at
        self._checked_at = now
        if self.unanswered_since is not None:
            if gap_s > PAUSE_S:
                self.unanswered_since += gap_s
            if now - self.unanswered_since >= SILENCE_S:
                return Verdict.SILENT
        if now - self._pinged_at >= PING_EVERY_S:
            self._pinged_at = now
            return Verdict.PING
        return Verdict.FINE
