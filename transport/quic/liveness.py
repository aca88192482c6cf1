"""Decides when to ping a connection and when its silence means that it is gone.

aioquic pings only when told and waits its whole idle time (120 s) for an answer. A living peer acknowledges
anything within milliseconds, so what counts is how long the oldest unanswered thing we sent has waited.
"""

from __future__ import annotations

from enum import Enum

PING_EVERY_S = 10.0
WAITING_PING_EVERY_S = 2.0
"""While somebody may be waiting for the peer: it ends waits for a dead one that nothing else would end."""

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

    __slots__ = ("_checked_at", "_heard_at", "_pinged_at", "unanswered_since")

    def __init__(self, now: float) -> None:
        self.unanswered_since: float | None = None
        self._heard_at = now
        self._pinged_at = now
        self._checked_at = now

    def asked(self, now: float) -> None:
        """Something was sent that the peer must acknowledge."""
        if self.unanswered_since is None:
            self.unanswered_since = now

    def heard(self, now: float) -> None:
        """Anything at all came from the peer."""
        self.unanswered_since = None
        self._heard_at = now

    def check(self, now: float, is_waiting: bool = False) -> Verdict:
        """Judge the connection; call at least every second. is_waiting: for whatever the peer may send."""
        gap_s = now - self._checked_at
        self._checked_at = now
        if self.unanswered_since is not None:
            if gap_s > PAUSE_S:
                self.unanswered_since += gap_s
            if now - self.unanswered_since >= SILENCE_S:
                return Verdict.SILENT
        if now - self._pinged_at >= PING_EVERY_S or (is_waiting and self._is_quiet(now)):
            self._pinged_at = now
            return Verdict.PING
        return Verdict.FINE

    def _is_quiet(self, now: float) -> bool:
        return now - max(self._heard_at, self._pinged_at) >= WAITING_PING_EVERY_S
