"""An engine that does exactly what a test says: pieces of an answer, pauses and failures, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from llm.changes import Changes
from llm.engines.interface import EngineState, EngineStatus, Headers, Request
from llm.errors import RequestFailed

EVENTS: Headers = (("content-type", "text/event-stream"),)

Step = bytes | float | RequestFailed
"""A piece of the body, a pause in seconds, or a failure."""


class ScriptedEngine:
    """Implements `Engine`. before_head: what happens before the head is there.  script: the body."""

    kind = "scripted"

    def __init__(self, script: Sequence[Step] = (), *, before_head: Sequence[Step] = (), slots: int = 2) -> None:
        self.script = script
        self.before_head = before_head
        self.slots = slots
        self.state = EngineState.READY
        self.in_flight = 0
        self.asked: list[Request] = []
        self.bytes_given = 0
        self._changes = Changes()

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self.state, "as scripted", self.in_flight, 4096, self.slots, 0.0)

    def become(self, state: EngineState) -> None:
        self.state = state
        self._changes.notify()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def changed(self) -> None:
        await self._changes.wait()

    async def answer(self, request: Request) -> ScriptedReply:
        self.asked.append(request)
        async for _ in perform(self.before_head):
            raise AssertionError("no body before the head")
        self.in_flight += 1
        return ScriptedReply(self)


class ScriptedReply:
    """The body of a scripted answer."""

    status = 200
    headers = EVENTS

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self._is_closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in perform(self._engine.script):
            self._engine.bytes_given += len(piece)
            yield piece

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._engine.in_flight -= 1


async def perform(script: Sequence[Step]) -> AsyncIterator[bytes]:
    """Go through a script, giving its pieces."""
    for step in script:
        match step:
            case bytes():
                yield step
            case RequestFailed():
                raise step
            case pause_s:
                await asyncio.sleep(pause_s)
