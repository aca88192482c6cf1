"""Carries what sessions and their drafters on other hosts say, between this process and its agent. A `Post`.

Each session that has a drafter has a connection to the agent's `llm.draft.desk`, which opens the stream to the drafter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from llm.draft.desk import Invitation
from llm.draft.message import (
    Proposal,
    Question,
    Ready,
    Refused,
    Wanted,
    read_answer,
    read_proposal,
    to_record,
    write_question,
)
from llm.draft.pipe import RecordPipe, connect
from llm.draft.tally import Tally
from llm.draft.tally import to_record as tally_record
from llm.errors import RequestFailed
from llm.sessions.far_drafter import FarDrafter
from llm.sessions.thread import SessionThread
from transport.errors import MeshError, Unreachable
from transport.interface import Record

logger = logging.getLogger("meshd.sessions")

NOT_NEEDED = "it is not needed any more"
READY_S = 30.0
MAX_UNSENT = 256
"""Records that wait for one connection; a line that is so far behind is given up."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Whom letters are for. thread: on which `far` is called."""

    thread: SessionThread
    far: FarDrafter


class FarPost:
    """Run it beside the thread, whose clock is `time.monotonic`. vocabulary: SHA-256 of the model's tokens, as hex."""

    def __init__(self, invitation: Invitation, vocabulary: str) -> None:
        self._invitation = invitation
        self._vocabulary = vocabulary
        self._loop = asyncio.get_running_loop()
        self._lines: dict[str, asyncio.Queue[Record | None]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self, parties: Parties) -> None:
        """Carry until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group, self._parties = group, parties
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    # From the thread

    def open(self, session: str) -> None:
        self._soon(lambda: self._open(session))

    def send(self, session: str, questions: Sequence[Question]) -> None:
        records = [write_question(question) for question in questions]
        self._soon(lambda: self._put(session, records))

    def tell(self, session: str, tally: Tally) -> None:
        self._soon(lambda: self._put(session, [tally_record(tally)]))

    def close(self, session: str) -> None:
        self._soon(lambda: self._put(session, [None]))

    def _soon(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(act)

    # On the loop

    def _open(self, session: str) -> None:
        if self._group is not None and session not in self._lines:
            self._lines[session] = asyncio.Queue(MAX_UNSENT)
            self._group.create_task(self._keep_line(session), name="a session's drafter")

    def _put(self, session: str, records: Sequence[Record | None]) -> None:
        line = self._lines.get(session)
        if line is None:
            return
        if line.qsize() + len(records) > MAX_UNSENT:
            while not line.empty():
                line.get_nowait()
            records = [None]
        for record in records:
            line.put_nowait(record)

    async def _keep_line(self, session: str) -> None:
        """One session's connection, until one of those who use it ends it."""
        try:
            reason = await self._converse(session)
        except (MeshError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
        finally:
            del self._lines[session]
        if reason != NOT_NEEDED:
            logger.info("session %s… has no drafter on another host: %s", session[:26], reason)
        with suppress(Unreachable):  # it is asked so much that it has no ear for this; its deadlines tell it, too
            await self._act(lambda far: far.lost(session))

    async def _converse(self, session: str) -> str:
        """Why it ended. Raises MeshError, TimeoutError."""
        invitation = self._invitation
        pipe = await connect(invitation.host, invitation.port, invitation.key)
        try:
            await pipe.send(to_record(Wanted(self._vocabulary)))
            async with asyncio.timeout(READY_S):
                answer = read_answer(await pipe.receive(), None)
            if isinstance(answer, Refused):
                return answer.reason
            return await self._carry(session, pipe, answer)
        finally:
            pipe.close()

    async def _carry(self, session: str, pipe: RecordPipe, ready: Ready) -> str:
        """Why either way ended."""
        await self._act(lambda far: far.opened(session, ready))
        async with asyncio.TaskGroup() as group:
            ways = {group.create_task(self._send(session, pipe)), group.create_task(self._receive(session, pipe))}
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        return next(iter(done)).result()

    async def _send(self, session: str, pipe: RecordPipe) -> str:
        line = self._lines[session]
        try:
            while (record := await line.get()) is not None:
                await pipe.send(record)
        except MeshError as error:
            return str(error)
        return NOT_NEEDED

    async def _receive(self, session: str, pipe: RecordPipe) -> str:
        try:
            while (record := await pipe.receive()) is not None:
                await self._act(partial(_hand_over, session, read_proposal(record, None), time.monotonic()))
        except MeshError as error:
            return str(error)
        return "it has gone"

    async def _act(self, act: Callable[[FarDrafter], None]) -> None:
        """Let the thread do it, between two batches. Raises Unreachable when it cannot."""
        try:
            await self._parties.thread.call(lambda _: act(self._parties.far))
        except RequestFailed as error:
            raise Unreachable(f"this process does not keep up: {error}") from error


def _hand_over(session: str, proposal: Proposal, arrived: float, far: FarDrafter) -> None:
    far.answered(session, proposal, arrived)
