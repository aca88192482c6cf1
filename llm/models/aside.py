"""Runs what blocks for long in a thread of its own: not one of the loop's, and the program's end does not wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_aside(work: Callable[[threading.Event], T], name: str) -> T:
    """What `work` returns or raises. Its event is set when nobody waits any more; it should end soon then."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    stop = threading.Event()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not outcome.done():
            set_outcome()

    def body() -> None:
        try:
            result = work(stop)
        except BaseException as error:  # noqa: BLE001 - it rises where it is awaited
            failure = error
            tell = lambda: settle(lambda: outcome.set_exception(failure))  # noqa: E731
        else:
            tell = lambda: settle(lambda: outcome.set_result(result))  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=body, name=name, daemon=True).start()
    try:
        return await outcome
    finally:
        stop.set()
