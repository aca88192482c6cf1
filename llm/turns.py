"""Whose request an engine answers next: a bounded queue before it, served round robin by caller.

Without it one caller with a hundred requests would make everybody wait behind them. The engine gets as many requests
as it has slots and never queues itself; when the queue is full, whoever has the most in it is told to come back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from llm.errors import QueueFull
from transport.fair_queue import FairQueue, Sacrifice

SHORTEST_RETRY_S = 1
LONGEST_RETRY_S = 60
FIRST_GUESS_S = 2.0
MEMORY = 0.2
"""Share of the latest answer in the mean of how long answers take."""

SLOTLESS = ("/v1/sessions", "/tokenize", "/detokenize", "/apply-template", "/v1/models")
"""What llama-server answers beside its slots, and what another engine does, which has turns of its own."""

Waiter = asyncio.Future[None]


def takes_a_slot(method: str, path: str) -> bool:
    """Whether a request makes the engine generate, so that it has to wait for its turn."""
    return method == "POST" and not path.partition("?")[0].startswith(SLOTLESS)


class Turns:
    """The turns of one model. name: for messages.  slots: how many requests run at once, asked at every turn."""

    def __init__(self, name: str, slots: Callable[[], int], queue_limit: int) -> None:
        self._name = name
        self._slots = slots
        self._queue_limit = queue_limit
        self._queue: FairQueue[Waiter] = FairQueue(queue_limit, Sacrifice.NEWEST)
        self._running = 0
        self._mean_s = FIRST_GUESS_S

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def check(self, caller: str) -> None:
        """Raises QueueFull when a request of `caller` would be refused now."""
        if self._running >= self._slots() and not self._queue.has_room(caller):
            raise self._full()

    async def take(self, caller: str) -> None:
        """Wait for a turn, which `give_back` ends. Raises QueueFull, also later, when others have a better claim."""
        if self._running < self._slots() and not self._queue:
            self._running += 1
            return
        if not self._queue.has_room(caller):
            raise self._full()
        waiter = asyncio.get_running_loop().create_future()
        displaced = self._queue.put(caller, waiter)
        if displaced is not None:
            displaced.set_exception(self._full())
        self.advance()
        try:
            await waiter
        except asyncio.CancelledError:
            self._leave(caller, waiter)
            raise

    def give_back(self, lasted_s: float) -> None:
        """A turn is over, after so long."""
        self._mean_s += MEMORY * (lasted_s - self._mean_s)
        self._running -= 1
        self.advance()

    def advance(self) -> None:
        """Give turns to those who wait while slots are free; for callers who know that there are more slots now."""
        while self._queue and self._running < self._slots():
            waiter = self._queue.take()
            # A waiter that was cancelled in this very round of the loop leaves for itself.
            if not waiter.done():
                self._running += 1
                waiter.set_result(None)

    def _leave(self, caller: str, waiter: Waiter) -> None:
        """Give up a place in the queue, or the turn that came in the moment of giving up."""
        had_turn = not self._queue.discard(caller, waiter) and not waiter.cancelled() and waiter.exception() is None
        if had_turn:
            self._running -= 1
            self.advance()

    def _full(self) -> QueueFull:
        running, waiting = self._running, len(self._queue)
        what = f"{running + waiting} requests for model {self._name!r} are running or waiting on this node already"
        expected_s = math.ceil(waiting / max(1, self._slots()) * self._mean_s)
        return QueueFull(what, retry_after_s=min(max(SHORTEST_RETRY_S, expected_s), LONGEST_RETRY_S))
