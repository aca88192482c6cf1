"""Drafts for models of other nodes: answers `draft/1`, and tells the mesh in which vocabulary and how fast."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from llm.draft.fact import DRAFT_FACT, DraftOffer, encode_drafters, is_worth_telling
from llm.draft.message import IDLE_S, Ready, Refused, read_proposal, read_question, read_wanted, to_record
from llm.draft.pipe import RecordPipe, connect
from llm.engines.interface import Engine, EngineState, Request
from llm.errors import RequestFailed
from transport.errors import MeshError, ResetCode, TimedOut, Unreachable
from transport.identity import short
from transport.interface import Stream

logger = logging.getLogger("meshd.llm")

WANTED_S = 10.0
LOOK_EVERY_S = 5.0
ASK_S = 5.0
MAX_CONVERSATIONS = 64
DOOR_PATH = "/v1/drafter"

Publish = Callable[[str, bytes], None]


class DraftDoor(msgspec.Struct, frozen=True):
    """What the drafter's process says of itself: where blocks go, with which key, and what a token takes."""

    port: int
    key: str
    token_s: float


@dataclass(slots=True)
class DraftService:
    """name: of the model that drafts, in `vocabulary`.  engine: its process, run by whoever made this."""

    name: str
    vocabulary: str
    engine: Engine
    conversations: int = 0
    _told: DraftOffer | None = field(default=None)

    async def run(self, publish: Publish) -> None:
        """Run the process and say what it offers, again when that changes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(), name="drafter")
            while True:
                await self._offer(publish)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self.engine.changed()

    async def serve(self, stream: Stream) -> None:
        """Draft for one conversation of another node. Raises MeshError."""
        try:
            async with asyncio.timeout(WANTED_S):
                wanted = read_wanted(await stream.receive(), stream.peer.node)
        except TimeoutError as error:
            raise TimedOut(f"node {short(stream.peer.node)} did not say what to draft in {WANTED_S:g} s") from error
        if refusal := self._why_not(wanted.vocabulary):
            await stream.send(to_record(Refused(refusal)))
            await stream.finish()
            return
        self.conversations += 1
        try:
            async with self._connected() as (pipe, door):
                await stream.send(to_record(Ready(self.name, door.token_s)))
                await _carry(stream, pipe)
        finally:
            self.conversations -= 1
            stream.reset(ResetCode.CANCELLED)

    def _why_not(self, vocabulary: str) -> str:
        if vocabulary != self.vocabulary:
            return f"{self.name} drafts in another vocabulary"
        if self.engine.status.state is not EngineState.READY:
            return f"{self.name} is {self.engine.status.state.value}"
        if self.conversations >= MAX_CONVERSATIONS:
            return f"{self.name} drafts for {self.conversations} conversations already"
        return ""

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[RecordPipe, DraftDoor]]:
        """A connection to the process. Raises Unreachable."""
        door = await self._door()
        pipe = await connect("127.0.0.1", door.port, door.key)
        try:
            yield pipe, door
        finally:
            pipe.close()

    async def _door(self) -> DraftDoor:
        """Raises Unreachable."""
        request = Request(secrets.token_hex(8), self.name, "GET", DOOR_PATH, (), b"", ASK_S)
        try:
            reply = await self.engine.answer(request)
            try:
                async with asyncio.timeout(ASK_S):
                    body = b"".join([chunk async for chunk in reply.chunks()])
            finally:
                await reply.close()
            return msgspec.convert(json.loads(body), DraftDoor)
        except (RequestFailed, TimeoutError, ValueError) as error:
            raise Unreachable(f"the drafter {self.name} does not answer: {error}") from error

    async def _offer(self, publish: Publish) -> None:
        offer: DraftOffer | None = None
        if self.engine.status.state is EngineState.READY:
            try:
                offer = DraftOffer(self.name, self.vocabulary, (await self._door()).token_s)
            except Unreachable as error:
                logger.debug("%s", error)
        if offer is None and self._told is not None:
            publish(DRAFT_FACT, b"")
            self._told = None
        elif offer is not None and is_worth_telling(self._told, offer):
            publish(DRAFT_FACT, encode_drafters([offer]))
            self._told = offer


async def _carry(stream: Stream, pipe: RecordPipe) -> None:
    """Carry blocks until the host ends it, is idle for too long, or the process is gone. Raises MeshError."""
    failures: list[MeshError] = []

    async def there() -> None:
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    record = await stream.receive()
                if record is None:
                    return
                read_question(record, stream.peer.node)
                await pipe.send(record)
        except TimeoutError:
            logger.debug("node %s has not asked for %g s", short(stream.peer.node), IDLE_S)
        except MeshError as error:
            failures.append(error)

    async def back() -> None:
        try:
            while (record := await pipe.receive()) is not None:
                read_proposal(record, None)
                await stream.send(record)
        except MeshError as error:
            failures.append(error)

    async with asyncio.TaskGroup() as group:
        ways = {group.create_task(there()), group.create_task(back())}
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
    if failures:
        raise failures[0]
