"""Drives the process that computes forms: starts it at the first call, keeps it warm, and starts it again when it dies.

Calls wait in one short queue and are computed in order. A child that dies takes with it only the call it had.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forms.computed import Computed
from forms.errors import Busy, WorkerLost
from forms.form import FRAME_LIMIT
from forms.worker_pipe import JOB_HEAD, REPLY_HEAD, read_reply, reply_lengths

logger = logging.getLogger("meshd.forms")

QUEUE_LIMIT = 32
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
GRACE_S = 2.0
CPU = "cpu"
ABANDONED_S = 5.0
"""How long a call may go on that nobody waits for any more."""
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")


@dataclass(slots=True)
class _Job:
    kind: int
    request: bytes
    reply: asyncio.Future[Computed]


@dataclass(slots=True)
class Worker:
    """One child process and its queue. blobs: the folder that circuits lie in.  limit_bytes: of a reply.

    device: what the child computes with, "cpu" or "cuda:0", "cuda:1", …
    """

    blobs: Path
    limit_bytes: int = FRAME_LIMIT
    device: str = CPU
    _queue: asyncio.Queue[_Job] = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))
    _process: Process | None = None
    _backoff_s: float = 0.0
    is_computing: bool = False

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._queue.qsize()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def compute(self, kind: int, request: bytes, deadline_s: float) -> Computed:
        """The reply to `request`; waits for its turn. Raises Busy, WorkerLost."""
        job = _Job(kind, request, asyncio.get_running_loop().create_future())
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
            reply = await self._unless_abandoned(job)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._lost(job, error)
            return
        self._backoff_s = 0.0
        if reply is not None and not job.reply.done():
            job.reply.set_result(reply)

    async def _unless_abandoned(self, job: _Job) -> Computed | None:
        """The reply; None when whoever asked has gone and the child was ended, so that others get their turn."""
        process = await self._ready()
        async with asyncio.TaskGroup() as group:
            exchange = group.create_task(_outcome(self._exchange(process, job)), name="compute a form")
            either: set[asyncio.Future[Any]] = {exchange, job.reply}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not exchange.done():
                await asyncio.wait({exchange}, timeout=ABANDONED_S)
            if not exchange.done():
                exchange.cancel()
                await self._end()
                return None
        outcome = exchange.result()
        if isinstance(outcome, Computed):
            return outcome
        raise outcome

    async def _exchange(self, process: Process, job: _Job) -> Computed:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(JOB_HEAD.pack(job.kind, len(job.request)))
        process.stdin.write(job.request)
        await process.stdin.drain()
        head = await process.stdout.readexactly(REPLY_HEAD.size)
        name_length, length = reply_lengths(head)
        name = await process.stdout.readexactly(name_length)
        return read_reply(head, name, await process.stdout.readexactly(length))

    async def _ready(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "forms.worker_child", str(self.limit_bytes), str(self.blobs), self.device),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
                start_new_session=True,  # Ctrl-C in a terminal is the agent's to answer
            )
        return self._process

    async def _lost(self, job: _Job, error: Exception) -> None:
        """The child died, or cannot be started: say so, and do not hurry to start the next one."""
        await self._end()
        logger.error("the forms worker of %s died: %s", self.device, error)
        if not job.reply.done():
            job.reply.set_exception(WorkerLost("the worker died while computing this call; it is started again"))
        self._backoff_s = min(max(FIRST_BACKOFF_S, 2 * self._backoff_s), LONGEST_BACKOFF_S)
        await asyncio.sleep(self._backoff_s)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.kill()  # it has nothing to save
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()


async def _outcome(work: Coroutine[None, None, Computed]) -> Computed | OSError | asyncio.IncompleteReadError:
    """A reply, or what broke it off; anything else is our own bug and rises."""
    try:
        return await work
    except (OSError, asyncio.IncompleteReadError) as error:
        return error
