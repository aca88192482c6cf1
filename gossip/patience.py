"""How much nonsense a peer may pass on before this node stops looking at what it says, for a while.

Honest peers pass on some: certificates end, lists of who is revoked arrive late. But each piece costs a signature
check, so a peer of thousands would keep this node from its work.
"""

from __future__ import annotations

from transport.budget import Allowance, PeerBudgets
from transport.interface import NodeId

NONSENSE = Allowance(in_flight=1, burst=256, per_second=4.0)
UNBOUNDED = Allowance(in_flight=1, burst=1 << 30, per_second=1e6)
"""Of all peers together: nobody is shut out for what others say."""

DEAF_S = 10.0


class Patience:
    """Which peers are listened to."""

    def __init__(self) -> None:
        self._budgets = PeerBudgets(NONSENSE, UNBOUNDED)
        self._deaf_until: dict[NodeId, float] = {}

    def listens_to(self, peer: NodeId, now: float) -> bool:
        """Whether what `peer` says is worth checking."""
        if peer in self._deaf_until and now >= self._deaf_until[peer]:
            del self._deaf_until[peer]
        return peer not in self._deaf_until

    def refused(self, peer: NodeId, now: float) -> bool:
        """Count something of `peer` that could not be believed; False when that was one too many."""
        if self._budgets.take(peer, now):
            self._budgets.give_back(peer)
            return True
        self._deaf_until[peer] = now + DEAF_S
        return False
