"""Finds drafters for this node's sessions: where their process asks, a stream `draft/1` is opened to another node.

The process connects over loopback with a key of this start, says for which vocabulary, and its records are carried to
the drafter that should answer soonest, and back. What it says of how that goes is kept for status.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from gossip.belief import Believe, believe_everybody
from gossip.view import View
from llm.draft.fact import Found, find_drafters
from llm.draft.message import (
    PROTOCOL,
    Ready,
    Refused,
    Wanted,
    read_answer,
    read_proposal,
    read_question,
    read_wanted,
    to_record,
)
from llm.draft.pipe import RecordPipe, accept, check_key
from llm.draft.tally import Account, read_tally
from transport.errors import MeshError, ProtocolError, ResetCode, Unreachable
from transport.identity import short
from transport.interface import NodeId, RecordKind, Stream, StreamHeader
from transport.wire import printable

logger = logging.getLogger("meshd.llm")

ANSWER_S = 10.0
MOST_TRIED = 3
MAX_REASON = 500
BACKLOG = 64


Find = Callable[[str], list[Found]]
"""Drafters of a vocabulary, the best first."""


class Opener(Protocol):
    """What of `transport.interface.Transport` is needed."""

    async def open(self, node: NodeId, header: StreamHeader, *, bulk: bool = False) -> Stream: ...


@dataclass(frozen=True, slots=True)
class Invitation:
    """Where a process of this host finds the desk."""

    host: str
    port: int
    key: str

    def __str__(self) -> str:
        return f"{self.host} {self.port} {self.key}"

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """What `str` made of one. Raises ValueError."""
        host, port, key = text.split(" ")
        return cls(host, int(port), key)


@dataclass(slots=True)
class DraftDesk:
    """One node's. accounts: the latest, by model."""

    accounts: dict[str, Account] = field(default_factory=dict)
    _invitation: Invitation | None = None

    @property
    def invitation(self) -> str:
        """For a process of this host; empty while the desk is not open."""
        return str(self._invitation) if self._invitation is not None else ""

    async def run(self, transport: Opener, view: Callable[[], View], believe: Believe = believe_everybody) -> None:
        """Serve this host's processes until cancelled. believe: who may draft, `find_drafters`."""

        def find(vocabulary: str) -> list[Found]:
            return find_drafters(view(), vocabulary, believe)

        key = secrets.token_hex(16)
        with closing(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) as listener:
            self._invitation = Invitation("127.0.0.1", listener.getsockname()[1], key)
            try:
                async with asyncio.TaskGroup() as group:
                    async for pipe in accept(listener):
                        group.create_task(self._serve(pipe, key, transport, find), name="drafts of a session")
            finally:
                self._invitation = None

    async def _serve(self, pipe: RecordPipe, key: str, transport: Opener, find: Find) -> None:
        """One session's connection, from its first record to its end."""
        try:
            await check_key(pipe, key)
            async with asyncio.timeout(ANSWER_S):
                wanted = read_wanted(await pipe.receive(), None)
            await self._find_and_carry(pipe, wanted, transport, find(wanted.vocabulary))
        except (MeshError, TimeoutError) as error:
            logger.debug("a session's drafts ended: %s", error)
        finally:
            pipe.close()

    async def _find_and_carry(
        self, pipe: RecordPipe, wanted: Wanted, transport: Opener, drafters: Sequence[Found]
    ) -> None:
        reason = "no node that this one is connected with drafts in this model's vocabulary"
        for found in drafters[:MOST_TRIED]:
            try:
                stream, ready = await _ask(transport, found, wanted)
            except (MeshError, TimeoutError) as error:
                reason = f"{found.node.name}: {error or 'no answer in time'}"
                continue
            try:
                await pipe.send(to_record(msgspec.structs.replace(ready, round_trip_s=found.round_trip_s)))
                await self._carry(pipe, stream, found)
            finally:
                stream.reset(ResetCode.CANCELLED)
            return
        await pipe.send(to_record(Refused(reason[:MAX_REASON])))

    async def _carry(self, pipe: RecordPipe, stream: Stream, found: Found) -> None:
        """Carry records both ways until one end has none any more."""
        logger.debug("%s on node %s drafts for a session", found.offer.model, found.node.name)
        async with asyncio.TaskGroup() as group:
            ways = {group.create_task(self._there(pipe, stream, found)), group.create_task(_back(pipe, stream))}
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()

    async def _there(self, pipe: RecordPipe, stream: Stream, found: Found) -> None:
        with suppress(MeshError):
            while (record := await pipe.receive()) is not None:
                if record.kind is RecordKind.MESSAGE:
                    tally = read_tally(record)
                    self.accounts[tally.model] = Account(found.node.name, tally)
                else:
                    read_question(record, None)
                    await stream.send(record)


async def _back(pipe: RecordPipe, stream: Stream) -> None:
    try:
        while (record := await stream.receive()) is not None:
            read_proposal(record, stream.peer.node)
            await pipe.send(record)
    except ProtocolError as error:
        logger.warning("node %s drafts no more here: %s", short(stream.peer.node), error)
    except MeshError as error:
        logger.debug("the drafts of node %s ended: %s", short(stream.peer.node), error)


async def _ask(transport: Opener, found: Found, wanted: Wanted) -> tuple[Stream, Ready]:
    """A stream to a drafter that is ready. Raises MeshError, TimeoutError."""
    node = found.node.node
    stream = await transport.open(node, StreamHeader(PROTOCOL, secrets.token_hex(8)))
    try:
        async with asyncio.timeout(ANSWER_S):
            await stream.send(to_record(wanted))
            answer = read_answer(await stream.receive(), node)
        if isinstance(answer, Refused):
            raise Unreachable(printable(answer.reason, MAX_REASON))
    except BaseException:
        stream.reset(ResetCode.CANCELLED)
        raise
    return stream, answer
