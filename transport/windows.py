"""The windows of all streams of an endpoint, out of one budget in which every peer has a share.

A peer may hold as much as is still free besides (dynamic thresholds, Choudhury and Hahne 1998): n greedy peers hold
1 / (n + 1) of the budget each, a lone one half of it, and whoever comes next always finds room.
"""

from __future__ import annotations

from transport.credit import (
    DEFAULT_BUDGET_BYTES,
    DEFAULT_WINDOW_BYTES,
    INITIAL_WINDOW_BYTES,
    ReceiveCredit,
    WindowBudget,
)
from transport.interface import NodeId

ALWAYS_BYTES = 8 * INITIAL_WINDOW_BYTES
"""A peer that holds less than this may open streams whatever the others hold."""


class _Share(WindowBudget):
    """What one peer holds."""

    __slots__ = ("_whole",)

    def __init__(self, whole: WindowBudget) -> None:
        super().__init__(whole.limit_bytes)
        self._whole = whole

    @property
    def room_bytes(self) -> int:
        return max(0, self._whole.limit_bytes - self._whole.used_bytes - self.used_bytes) // 2

    def promise(self, size: int) -> None:
        self._whole.promise(size)
        super().promise(size)

    def reserve(self, wanted_bytes: int) -> int:
        granted = self._whole.reserve(min(wanted_bytes, self.room_bytes))
        super().promise(granted)
        return granted

    def release(self, size: int) -> None:
        self._whole.release(size)
        super().release(size)


class Windows:
    """Makes windows. window_bytes: the most of one stream.  budget_bytes: of all together."""

    def __init__(self, window_bytes: int = DEFAULT_WINDOW_BYTES, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._window_bytes = window_bytes
        self._budget = WindowBudget(budget_bytes)
        self._shares: dict[NodeId, _Share] = {}

    @property
    def used_bytes(self) -> int:
        return self._budget.used_bytes

    def credit(self, node: NodeId) -> ReceiveCredit:
        """The window of a new stream with `node`."""
        return ReceiveCredit(self._share(node), self._window_bytes)

    def has_room(self, node: NodeId) -> bool:
        """Whether `node` may open one more stream."""
        share = self._shares.get(node)
        return share is None or share.used_bytes < ALWAYS_BYTES or share.room_bytes >= INITIAL_WINDOW_BYTES

    def _share(self, node: NodeId) -> _Share:
        share = self._shares.pop(node, None) or _Share(self._budget)
        for other in [one for one, held in self._shares.items() if not held.used_bytes]:
            del self._shares[other]  # nobody counts there any more
        self._shares[node] = share
        return share
