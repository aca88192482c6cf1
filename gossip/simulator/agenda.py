"""Virtual time: what is to happen, in order. Ties fall in the order in which they were planned."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], object]


class Agenda:
    """A clock that jumps from one planned action to the next."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.actions_done = 0
        self._queue: list[tuple[float, int, Action]] = []
        self._planned = 0

    def at(self, due: float, action: Action) -> None:
        """Plan `action`; what is due already happens next, after what was planned before it."""
        self._planned += 1
        heapq.heappush(self._queue, (max(due, self.now), self._planned, action))

    def after(self, wait_s: float, action: Action) -> None:
        """Plan `action` for `wait_s` from now."""
        # As `at`, in one step: nearly all is planned so.
        self._planned += 1
        heapq.heappush(self._queue, (self.now + max(wait_s, 0.0), self._planned, action))

    def run_until(self, end: float) -> None:
        """Do everything that is due up to `end`, and let it be `end`."""
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action = heapq.heappop(queue)
            self.actions_done += 1
            action()
        self.now = end
