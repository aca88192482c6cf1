"""One worker's process as its agent sees it: started with a socket and two segments, given one job at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from forms.computed import Computed
from forms.errors import Busy, WorkerLost
from forms.message_socket import MessageSocket
from forms.room import Room
from forms.segment import Segment
from forms.worker_pipe import (
    INLINE_BYTES,
    MAX_MESSAGE_BYTES,
    Grant,
    Job,
    Lost,
    Message,
    Need,
    Note,
    Reply,
    read_message,
    write_message,
)

Result = TypeVar("Result")

logger = logging.getLogger("meshd.forms")

GRACE_S = 2.0
SHORT_BYTES = 1 << 20
"""Copied on the event loop; what is longer, in a thread."""
INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES"),
    *("CUDA_HOME", "CUDA_PATH", "CUDA_CACHE_PATH", "CUDA_MODULE_LOADING"),
    *("NUMBA_CACHE_DIR", "CUPY_CACHE_DIR", "XDG_CACHE_HOME", "MESHD_FORM_SLOWNESS"),
)
# The driver numbers GPUs by their place on the bus; CUDA would by what it takes for the fastest.
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class GaveUp(WorkerLost):
    """The worker has said why it ends. form: whose kernel brought its device down when it was checked, if one did."""

    def __init__(self, reason: str, form: str) -> None:
        super().__init__(reason)
        self.form = form


@dataclass(frozen=True, slots=True)
class Start:
    """How a worker begins. device: "cpu" or "cuda:0".  blobs: where circuits lie.  limit_bytes: of a reply.

    without: forms whose kernels brought this device down.
    """

    device: str
    blobs: Path
    limit_bytes: int
    without: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker that runs, or has died. What it does is told by `exchange`, which is called for one job at a time."""

    process: Process
    device: str
    _socket: MessageSocket
    _requests: Segment
    _replies: Segment

    @classmethod
    async def start(cls, how: Start) -> WorkerProcess:
        """Raises OSError where no process can be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        requests, replies = Segment.create("meshd-requests"), Segment.create("meshd-replies")
        passed = (theirs.fileno(), requests.descriptor, replies.descriptor)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "forms.worker_child", "--descriptors", *map(str, passed)),
                *("--device", how.device, "--blobs", str(how.blobs), "--limit-bytes", str(how.limit_bytes)),
                *("--without", *how.without),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                pass_fds=passed,
                env={name: os.environ[name] for name in INHERITED if name in os.environ} | ORDER,
                start_new_session=True,  # Ctrl-C in a terminal is the agent's to answer
            )
        return cls(process, how.device, MessageSocket(ours, MAX_MESSAGE_BYTES), requests, replies)

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def note(self, line: str) -> None:
        """Log what the worker has to say."""
        logger.warning("the forms worker of %s: %s", self.device, line)

    async def exchange(
        self, kind: int, request: bytes, room: Room, deadline_s: float, note: Callable[[str], None]
    ) -> Computed:
        """What the worker computes. Memory is held while it does, and waited for until `deadline_s` of the loop's time.

        note: told what the worker has to say.  Raises WorkerLost, OSError.
        """
        await self._send_job(kind, request)
        async with AsyncExitStack() as held:
            while True:
                match await self._receive():
                    case Reply(computed, shared_bytes):
                        return await self._whole(computed, shared_bytes)
                    case Need(size_bytes):
                        await self._send(await self._grant(held, room, size_bytes, deadline_s))
                    case Note(line):
                        note(line)
                    case Lost(reason, form):
                        raise GaveUp(reason, form)
                    case other:
                        raise WorkerLost(f"a worker sent a {type(other).__name__} of its own")

    async def end(self) -> None:
        """Kill it: it has nothing to save."""
        self._socket.close()
        for segment in (self._requests, self._replies):
            segment.trim(0)  # whoever still looks at an error of this process holds them
        if self.is_alive:
            # Not `process.kill`: it reaps a child that died just now, and then asyncio waits in vain for its status.
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self.process.wait()

    async def _send_job(self, kind: int, request: bytes) -> None:
        if len(request) <= INLINE_BYTES:
            await self._send(Job(kind, request))
            return
        await _off_loop(len(request), lambda: self._requests.write(request))
        await self._send(Job(kind, b"", len(request)))

    async def _whole(self, computed: Computed, shared_bytes: int) -> Computed:
        if not shared_bytes:
            return computed
        reply = await _off_loop(shared_bytes, lambda: self._replies.read(shared_bytes))
        for segment in (self._requests, self._replies):
            segment.trim()
        return replace(computed, reply=reply)

    async def _grant(self, held: AsyncExitStack, room: Room, size_bytes: int, deadline_s: float) -> Grant:
        try:
            await held.enter_async_context(room.hold(self.device, size_bytes, deadline_s))
        except Busy as error:
            return Grant(str(error) or "there is no memory for it")
        return Grant()

    async def _send(self, message: Message) -> None:
        await self._socket.send(write_message(message))

    async def _receive(self) -> Message:
        return read_message(await self._socket.receive())


async def _off_loop(size_bytes: int, copy: Callable[[], Result]) -> Result:
    """Copy here what is short, in a thread what would hold up everybody else."""
    return copy() if size_bytes <= SHORT_BYTES else await asyncio.to_thread(copy)
