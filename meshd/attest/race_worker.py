"""The process that computes a node's proofs, as its agent sees it: started for the first job, ended when idle.

One job at a time: what somebody waits for to be opened first, then a search, and what is to be judged after those.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from forms.poc.threads import pin_threads
from meshd.attest.race_job import (
    LENGTH,
    MAX_JOB_BYTES,
    Failed,
    Generate,
    Generated,
    Job,
    Judge,
    Judgement,
    Open,
    Opened,
    Progress,
    Reply,
    frame,
    read_reply,
)
from meshd.attest.transcript import Judged
from transport.errors import ProtocolError

logger = logging.getLogger("meshd.attest")

IDLE_S = 60.0
GRACE_S = 2.0
MAX_WAITING = 64
URGENCY: dict[type[Job], int] = {Open: 0, Generate: 1, Judge: 2}
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
THREADS = 1
"""A search's matrices are small: a second one costs more than it brings, and would take what others compute with."""

Told = Callable[[Progress], None]


class NotComputed(Exception):
    """The proofs' process did not do a job; the message says why."""


class Computing(Protocol):
    """What computes proofs: `RaceWorker`, or another that does the same."""

    async def generate(self, job: Generate, told: Told) -> Generated: ...

    async def open(self, root: bytes, secret: bytes) -> bytes: ...

    async def judge(self, transcript: bytes) -> Judged: ...


@dataclass(slots=True)
class _Asked:
    job: Job
    told: Told
    answer: asyncio.Future[Reply]


def _quietly(progress: Progress) -> None:
    """For jobs that say nothing on their way."""


@dataclass(slots=True)
class RaceWorker:
    """Jobs wait their turn; past `MAX_WAITING` they are refused."""

    _jobs: asyncio.PriorityQueue[tuple[int, int, _Asked]] = field(
        default_factory=lambda: asyncio.PriorityQueue(MAX_WAITING)
    )
    _numbers: Iterator[int] = field(default_factory=count)

    async def generate(self, job: Generate, told: Told) -> Generated:
        """Search. Raises NotComputed."""
        reply = await self._ask(job, told)
        if not isinstance(reply, Generated):
            raise NotComputed(_reason(reply))
        return reply

    async def open(self, root: bytes, secret: bytes) -> bytes:
        """Encoded samples of the work that has this root. Raises NotComputed."""
        reply = await self._ask(Open(root, secret))
        if not isinstance(reply, Opened):
            raise NotComputed(_reason(reply))
        return reply.samples

    async def judge(self, transcript: bytes) -> Judged:
        """What a transcript shows. Raises NotComputed."""
        reply = await self._ask(Judge(transcript))
        if not isinstance(reply, Judgement):
            raise NotComputed(_reason(reply))
        return reply.judged

    async def run(self) -> None:
        """Do what is asked until cancelled."""
        while True:
            *_, first = await self._jobs.get()
            try:
                await self._serve(first)
            except (OSError, asyncio.IncompleteReadError, ProtocolError) as error:
                logger.warning("the process that computes proofs has died: %s", error)

    async def _serve(self, asked: _Asked) -> None:
        """Do this job and those that follow it soon, in one process."""
        process: Process | None = None
        try:
            process = await _start()
            while True:
                if not await _exchange(process, asked):
                    return
                async with asyncio.timeout(IDLE_S):
                    *_, asked = await self._jobs.get()
        except TimeoutError:
            return  # nobody wants anything any more
        finally:
            if not asked.answer.done():
                asked.answer.set_result(Failed("the process that computes proofs has died"))
            if process is not None:
                await _end(process)

    async def _ask(self, job: Job, told: Told = _quietly) -> Reply:
        asked = _Asked(job, told, asyncio.get_running_loop().create_future())
        try:
            self._jobs.put_nowait((URGENCY[type(job)], next(self._numbers), asked))
        except asyncio.QueueFull:
            raise NotComputed(f"{MAX_WAITING} proofs are waiting already") from None
        return await asked.answer


async def _start() -> Process:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    pin_threads(environment, THREADS)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshd.attest.race_child"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C in a terminal is the agent's to answer
    )


async def _exchange(process: Process, asked: _Asked) -> bool:
    """One job to its end. False where it was given up: the process goes on with it, and is of no more use."""
    assert process.stdin is not None and process.stdout is not None
    if asked.answer.done():
        return True
    process.stdin.write(frame(asked.job))
    await process.stdin.drain()
    while True:
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        if length > MAX_JOB_BYTES:
            raise ProtocolError(f"expected a reply of at most {MAX_JOB_BYTES} bytes, its header says {length}")
        reply = read_reply(await process.stdout.readexactly(length))
        if asked.answer.done():
            return False
        if not isinstance(reply, Progress):
            asked.answer.set_result(reply)
            return True
        asked.told(reply)


async def _end(process: Process) -> None:
    """Kill it: it has nothing to save."""
    if process.returncode is None:
        # Not `process.kill`: it reaps a child that died just now, and then asyncio waits in vain for its status.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()


def _reason(reply: Reply) -> str:
    return reply.reason if isinstance(reply, Failed) else f"the proofs' process sent a {type(reply).__name__}"
