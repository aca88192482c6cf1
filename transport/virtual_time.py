"""An event loop whose clock jumps to the next timer instead of waiting for it.

For tests and simulations over `memory`: hours of back-off and time-outs pass in moments, and one seed replays
one history. For code that waits on timers and on itself; the clock stands still while a thread works for the
loop, and real sockets keep real time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEADLOCK_AFTER_S = 5.0
"""Real seconds without a timer or a socket after which nothing can ever happen."""
THREAD_S = 60.0
"""Real seconds that a thread that works for the loop may take on a busy machine."""


class Deadlock(RuntimeError):
    """Every task waits and no timer is set."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls the real descriptors once, then moves the clock instead of waiting."""

    clock_s = 0.0
    threads_at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # A thread's result wakes the loop through a descriptor; how long that takes must not move the clock.
        of_threads_s = THREAD_S if self.threads_at_work else 0.0
        if timeout is None:
            ready = super().select(of_threads_s or DEADLOCK_AFTER_S)
            if not ready:
                raise Deadlock("every task waits and no timer is set")
            return list(ready)
        ready = super().select(of_threads_s if timeout > 0 else 0)
        if not ready:
            self.clock_s += max(0.0, timeout)
        return list(ready)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at zero; `time()` is virtual seconds."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.clock_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads_at_work += 1
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads_at_work -= 1


def run(scenario: Coroutine[Any, Any, T], seed: int | None = None) -> T:
    """Run `scenario` to its end in virtual time; a failure carries the seed it ran with as a note."""
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(scenario)
    except BaseException as error:
        if seed is not None:
            error.add_note(f"seed {seed}")
        raise
