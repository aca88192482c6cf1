"""Drives the process that computes forms: starts it at the first call, keeps it warm, and starts it again when it dies.

Calls wait in one short queue and are computed in order. A child that dies takes with it only the call it had.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from forms.computed import Computed
from forms.errors import Busy, WorkerLost
from forms.form import FRAME_LIMIT
from forms.room import EndlessRoom, Room
from forms.worker_process import GaveUp, Start, WorkerProcess

logger = logging.getLogger("meshd.forms")

QUEUE_LIMIT = 32
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
CPU = "cpu"
CONTEXT_BYTES = 512 << 20
"""Of a GPU that a worker takes for being there, and for what its calls take without asking."""
ABANDONED_S = 5.0
"""How long a call may go on that nobody waits for any more."""
ANSWER_S = 0.5
"""Before a call's deadline, for the worker to say that there was no memory."""


@dataclass(slots=True)
class _Job:
    kind: int
    request: bytes
    deadline_s: float
    reply: asyncio.Future[Computed]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)  # whose call it is, for the log


def _within(context: contextvars.Context, note: Callable[[str], None], line: str) -> None:
    context.run(note, line)


@dataclass(slots=True)
class Worker:
    """One child process and its queue. blobs: the folder that circuits lie in.  limit_bytes: of a reply.

    device: what the child computes with, "cpu" or "cuda:0", "cuda:1", …  room: its memory.
    """

    blobs: Path
    limit_bytes: int = FRAME_LIMIT
    device: str = CPU
    room: Room = field(default_factory=EndlessRoom)
    is_computing: bool = False
    _queue: asyncio.Queue[_Job] = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))
    _process: WorkerProcess | None = None
    _held: AsyncExitStack = field(default_factory=AsyncExitStack)
    _unfit: set[str] = field(default_factory=set)
    _backoff_s: float = 0.0

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._queue.qsize()

    @property
    def pid(self) -> int | None:
        return self._process.process.pid if self._process is not None else None

    async def compute(self, kind: int, request: bytes, deadline_s: float) -> Computed:
        """The reply to `request`; waits for its turn. Raises Busy, WorkerLost."""
        loop = asyncio.get_running_loop()
        job = _Job(kind, request, loop.time() + deadline_s, loop.create_future())
        try:
            async with asyncio.timeout(deadline_s):
                await self._queue.put(job)
                return await job.reply
        except TimeoutError as error:
            raise Busy(f"no reply within {deadline_s:g} s; {self.waiting} calls wait on this node") from error
        finally:
            job.reply.cancel()

    async def run(self) -> None:
        """Compute until cancelled; leave no process behind."""
        try:
            while True:
                job = await self._queue.get()
                # Whoever asked may have gone while it waited.
                if not job.reply.done():
                    self.is_computing = True
                    await self._do(job)
                    self.is_computing = False
        finally:
            await self._end()

    async def _do(self, job: _Job) -> None:
        try:
            computed = await self._unless_abandoned(job)
        except (OSError, WorkerLost) as error:
            await self._lost(job, error)
            return
        except Busy as error:
            if not job.reply.done():
                job.reply.set_exception(error)
            return
        self._backoff_s = 0.0
        if computed is not None and not job.reply.done():
            job.reply.set_result(computed)

    async def _unless_abandoned(self, job: _Job) -> Computed | None:
        """The reply; None when whoever asked has gone and the child was ended, so that others get their turn."""
        loop = asyncio.get_running_loop()
        process = await self._ready(job.deadline_s - ANSWER_S)
        try:
            async with asyncio.timeout(None) as patience:

                def hurry(_: asyncio.Future[Computed]) -> None:
                    patience.reschedule(loop.time() + ABANDONED_S)

                job.reply.add_done_callback(hurry)
                try:
                    note = partial(_within, job.context, process.note)
                    return await process.exchange(job.kind, job.request, self.room, job.deadline_s - ANSWER_S, note)
                finally:
                    job.reply.remove_done_callback(hurry)
        except TimeoutError:
            await self._end()
            return None

    async def _ready(self, deadline_s: float) -> WorkerProcess:
        """The process; its device's context is memory that a first call waits for. Raises Busy, OSError."""
        if self._process is not None and not self._process.is_alive:
            await self._end()
        if self._process is None:
            if self.device != CPU:
                await self._held.enter_async_context(self.room.hold(self.device, CONTEXT_BYTES, deadline_s))
            how = Start(self.device, self.blobs, self.limit_bytes, sorted(self._unfit))
            self._process = await WorkerProcess.start(how)
        return self._process

    async def _lost(self, job: _Job, error: Exception) -> None:
        """The child died, or cannot be started: say so, and do not hurry to start the next one."""
        await self._end()
        if isinstance(error, GaveUp) and error.form:
            self._unfit.add(error.form)
        # Not what its frames hold.
        job.context.run(logger.error, "the forms worker of %s died: %s", self.device, str(error))
        if not job.reply.done():
            why = f": {error}" if isinstance(error, WorkerLost) else ""
            lost = WorkerLost(f"the worker died while computing this call{why}; it is started again")
            job.reply.set_exception(lost)
        self._backoff_s = min(max(FIRST_BACKOFF_S, 2 * self._backoff_s), LONGEST_BACKOFF_S)
        await asyncio.sleep(self._backoff_s)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()
        await self._held.aclose()
