"""Tells open pages what changes, as server-sent events: `status` and `activity`, each whole, only when it differs.

A page that was away gets the present, not the past, so nothing is kept for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm.changes import Changes

MAX_READERS = 32
SHORTEST_PAUSE_S = 0.25
TICK_S = 1.0
"""What nothing announces, such as round trips and free memory, is looked at this often."""
HEARTBEAT_TICKS = 15

Read = Callable[[], Any]
Wait = Callable[[], Awaitable[object]]


class TooManyReaders(Exception):
    """As many pages are open as this node tells of changes."""


@dataclass(slots=True)
class Feed:
    """topics: what is told, by the name of its event.  waits: each returns when something of it may have changed."""

    topics: dict[str, Read]
    waits: Sequence[Wait]
    _woken: Changes = field(default_factory=Changes)
    _readers: int = 0
    _is_over: bool = False

    async def run(self) -> None:
        """Follow the sources until cancelled; then every page's stream ends."""
        try:
            async with asyncio.TaskGroup() as group:
                for wait in self.waits:
                    group.create_task(self._follow(wait), name="follow for the console")
        finally:
            self._is_over = True
            self._woken.notify()

    async def _follow(self, wait: Wait) -> None:
        while True:
            await wait()
            self._woken.notify()

    def events(self) -> AsyncIterator[bytes]:
        """A stream of events for one page, the present first. Raises TooManyReaders at once."""
        if self._readers >= MAX_READERS:
            raise TooManyReaders(f"{MAX_READERS} pages are open on this node already; close one")
        return self._events()

    async def _events(self) -> AsyncIterator[bytes]:
        told: dict[str, str] = {}
        quiet_ticks = 0
        self._readers += 1
        try:
            while not self._is_over:
                if pieces := self._news(told):
                    yield b"".join(pieces)
                    quiet_ticks = 0
                elif (quiet_ticks := quiet_ticks + 1) % HEARTBEAT_TICKS == 0:
                    yield b": still here\n\n"
                await self._pause()
        finally:
            self._readers -= 1

    def _news(self, told: dict[str, str]) -> list[bytes]:
        pieces = []
        for topic, read in self.topics.items():
            text = json.dumps(read(), separators=(",", ":"))
            if told.get(topic) != text:
                told[topic] = text
                pieces.append(f"event: {topic}\ndata: {text}\n\n".encode())
        return pieces

    async def _pause(self) -> None:
        await asyncio.sleep(SHORTEST_PAUSE_S)
        try:
            async with asyncio.timeout(TICK_S - SHORTEST_PAUSE_S):
                await self._woken.wait()
        except TimeoutError:
            return
