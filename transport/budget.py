"""How much of this node's time others may take: so many questions at once, so many in a burst, so many a second."""

from __future__ import annotations

from dataclasses import dataclass

from transport.interface import NodeId

MAX_PEERS = 2048
"""Budgets kept: twice the members a mesh may have, so clients fit too."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """in_flight: begun and not answered.  burst: at once after a rest.  per_second: for ever."""

    in_flight: int
    burst: int
    per_second: float


class Budget:
    """One allowance and what is left of it."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._left = float(allowance.burst)
        self._in_flight = 0
        self._counted_at: float | None = None

    def take(self, now: float) -> bool:
        """Count one question that begins at `now`, if there is room for it; whether there was."""
        self._refill(now)
        if self._in_flight >= self._allowance.in_flight or self._left < 1:
            return False
        self._left -= 1
        self._in_flight += 1
        return True

    def give_back(self) -> None:
        """The question has been answered, or given up."""
        self._in_flight -= 1

    def is_idle(self, now: float) -> bool:
        """Whether a new budget would say the same."""
        self._refill(now)
        return self._in_flight == 0 and self._left >= self._allowance.burst

    def _refill(self, now: float) -> None:
        since_s = max(0.0, now - self._counted_at) if self._counted_at is not None else 0.0
        self._left = min(self._allowance.burst, self._left + since_s * self._allowance.per_second)
        self._counted_at = now


class PeerBudgets:
    """A budget for each peer, made when it first asks, and one for all of them together."""

    def __init__(self, each: Allowance, together: Allowance) -> None:
        self._each = each
        self._together = Budget(together)
        self._peers: dict[NodeId, Budget] = {}

    def take(self, peer: NodeId, now: float) -> bool:
        """As `Budget.take`, for a question of `peer`."""
        budget = self._budget(peer, now)
        if budget is None or not budget.take(now):
            return False
        if not self._together.take(now):
            budget.give_back()
            return False
        return True

    def give_back(self, peer: NodeId) -> None:
        self._peers[peer].give_back()
        self._together.give_back()

    def _budget(self, peer: NodeId, now: float) -> Budget | None:
        """The budget of `peer`; None when there is no room for another."""
        if peer not in self._peers:
            if len(self._peers) >= MAX_PEERS:
                self._peers = {one: budget for one, budget in self._peers.items() if not budget.is_idle(now)}
            if len(self._peers) >= MAX_PEERS:
                return None
            self._peers[peer] = Budget(self._each)
        return self._peers[peer]
