"""Lets any number of tasks wait for the next change of something, to then look at it again."""

from __future__ import annotations

import asyncio


class Changes:
    """A bell without memory: `wait` returns at the first `notify` after the call."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Wake every task that waits now."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next change. Nothing is missed between a look and this call without an await between."""
        await self._next.wait()
