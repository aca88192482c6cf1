"""What workers say of a call beside its reply, and which of them gets it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import signal
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import pytest

from forms.computed import Computed
from forms.errors import Busy, FormFailed, NotFound, WorkerLost
from forms.room import EndlessRoom, Room
from forms.worker import CONTEXT_BYTES, Worker
from forms.worker_pipe import FRAME, TEXT
from forms.workers import Workers

pytestmark = pytest.mark.live

PATIENCE_S = 120.0
SORT = b"(cuda-radix-sort '(3 1 2))"


@asynccontextmanager
async def running(*devices: str, room: Room | None = None) -> AsyncIterator[Workers]:
    blobs, limit_bytes = Path("/nonexistent"), 1 << 26
    workers = Workers([Worker(blobs, limit_bytes, device, room or EndlessRoom()) for device in devices])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(workers.run())
        yield workers
        task.cancel()


async def test_a_reply_tells_what_it_cost_and_an_error_that_it_teaches_nothing() -> None:
    async with running("cpu") as workers:
        first = await workers.compute(TEXT, SORT, PATIENCE_S)
        assert (first.reply, first.form, first.work) == (b"(ok (1 2 3))\n", "cuda-radix-sort", 3.0)
        assert first.backend is not None
        assert first.seconds > 0
        assert first.is_cold
        again = await workers.compute(TEXT, SORT, PATIENCE_S)
        assert not again.is_cold
        for kind, wrong in ((TEXT, b"(cuda-radix-sort '(x))"), (TEXT, b"(no-such-form)"), (FRAME, b"BXXX")):
            failed = await workers.compute(kind, wrong, PATIENCE_S)
            assert failed.is_error, failed
            assert not failed.reply.startswith(b"(ok")


async def test_calls_go_to_the_first_kind_of_device_unless_one_is_named() -> None:
    workers = Workers([Worker(Path("/nonexistent"), device=device) for device in ("cuda:0", "cuda:1", "cpu")])
    assert workers.least_busy().device == "cuda:0"
    workers.of("cuda:0").is_computing = True
    assert workers.least_busy().device == "cuda:1"
    assert workers.of("cpu").device == "cpu"
    with pytest.raises(NotFound, match="cuda:1"):
        workers.of("cuda:2")


def shake_frame(rows: int, out_bytes: int = 32) -> bytes:
    return struct.pack("<4sIII", b"BSHK", out_bytes, rows, 4) + b"".join(struct.pack("<I", row) for row in range(rows))


def segments() -> int:
    """How many of the shared ones this process has open."""
    gc.collect()  # an error that ended a task holds its frames until then
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += "memfd:meshd-" in str(descriptor.readlink())
    return found


async def test_long_requests_and_replies_of_any_length_follow_one_another() -> None:
    async with running("cpu") as workers:
        for rows in (3, 40_000, 2, 20_000, 300_000, 1):
            done = await workers.compute(FRAME, shake_frame(rows), PATIENCE_S)
            expected = b"".join(hashlib.shake_256(struct.pack("<I", row)).digest(32) for row in (0, rows - 1))
            assert len(done.reply) == 12 + 32 * rows
            assert done.reply[12:44] + done.reply[-32:] == (expected if rows > 1 else expected[:32] * 2)
        assert segments() == 2
        small = await workers.compute(TEXT, SORT, PATIENCE_S)
        assert small.reply == b"(ok (1 2 3))\n"
    assert segments() == 0


LONG = b'(cuda-bignum-cgbn mod-pow 4096 "' + b"f" * 1024 + b"\" '(" + (b'"' + b"e" * 1024 + b'" ') * 2000
LONG += b") '(" + (b'"' + b"d" * 1024 + b'" ') * 2000 + b"))"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - it has nothing that one could wait for
            await asyncio.sleep(0.01)


async def test_a_worker_killed_in_the_midst_of_a_long_request_leaves_nothing_behind() -> None:
    async with running("cpu") as workers:
        (worker,) = workers
        assert isinstance(await killed_in(worker, LONG), WorkerLost)
        assert (await workers.compute(TEXT, SORT, PATIENCE_S)).reply == b"(ok (1 2 3))\n"
        assert segments() == 2


WHOSE = ContextVar("WHOSE", default="nobody")


class TellsWhose(logging.Handler):
    """Keeps for whom each line was written, as whoever renders request ids would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((WHOSE.get(), record.getMessage()))


@contextmanager
def told_of_forms() -> Iterator[TellsWhose]:
    handler, logger = TellsWhose(), logging.getLogger("meshd.forms")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


async def test_what_is_logged_of_a_lost_call_is_logged_as_its_callers() -> None:
    with told_of_forms() as handler:
        async with running("cpu") as workers:
            (worker,) = workers
            for caller in ("first", "second"):
                WHOSE.set(caller)
                assert isinstance(await killed_in(worker, LONG), WorkerLost)
    assert [whose for whose, line in handler.lines if "died" in line] == ["first", "second"]


async def killed_in(worker: Worker, request: bytes) -> Computed | FormFailed:
    """What becomes of a call whose process is killed while it computes."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(outcome(worker.compute(TEXT, request, PATIENCE_S)))
        await until(lambda: worker.is_computing and worker.pid is not None)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
    return asked.result()


async def outcome(work: Awaitable[Computed]) -> Computed | FormFailed:
    try:
        return await work
    except FormFailed as error:
        return error


async def test_a_worker_ends_with_its_agent_in_the_midst_of_a_call(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(LONG)
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", AGENT, str(tmp_path / "long"), stdout=PIPE)
    assert agent.stdout is not None
    worker_pid = int(await agent.stdout.readline())
    assert is_running(worker_pid)
    agent.kill()
    await agent.wait()
    await until(lambda: not is_running(worker_pid))


AGENT = """
import asyncio, pathlib, sys
from forms.worker import CONTEXT_BYTES, Worker
from forms.worker_pipe import TEXT

async def main():
    worker = Worker(pathlib.Path("/nonexistent"))
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        group.create_task(worker.compute(TEXT, pathlib.Path(sys.argv[1]).read_bytes(), 60))
        while not (worker.is_computing and worker.pid):
            await asyncio.sleep(0.01)
        print(worker.pid, flush=True)

asyncio.run(main())
"""


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


async def test_the_processor_computes_for_a_gpu_that_cannot_be_used_and_says_so() -> None:
    with told_of_forms() as handler:
        async with running("cuda:99") as workers:
            for _ in range(2):
                assert (await workers.compute(TEXT, SORT, PATIENCE_S)).reply == b"(ok (1 2 3))\n"
    (said,) = [line for _, line in handler.lines if "cannot be used" in line]
    assert said.startswith("the forms worker of cuda:99: this GPU cannot be used (")
    assert "until meshd is started again the processor computes its calls" in said


class CountedRoom:
    """A ledger of one number. waited: what was asked and not there."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.held: list[tuple[str, int]] = []

    @asynccontextmanager
    async def hold(self, device: str, size_bytes: int, deadline_s: float) -> AsyncIterator[None]:
        if size_bytes > self.free_bytes:
            raise Busy("too little memory is free")
        self.held.append((device, size_bytes))
        self.free_bytes -= size_bytes
        try:
            yield
        finally:
            self.free_bytes += size_bytes


async def test_a_large_call_holds_memory_while_it_is_computed_and_a_small_one_asks_for_none() -> None:
    room = CountedRoom(1 << 28)
    async with running("cpu", room=room) as workers:
        await workers.compute(FRAME, shake_frame(10), PATIENCE_S)
        assert room.held == []
        await workers.compute(FRAME, shake_frame(700_000), PATIENCE_S)
        assert [device for device, _ in room.held] == ["cpu"]
        assert room.held[0][1] >= 700_000 * 36 - (64 << 20)
        assert room.free_bytes == 1 << 28
        room.free_bytes = 1
        refused = await workers.compute(FRAME, shake_frame(700_000), PATIENCE_S)
        assert refused.reply.startswith(b"BERR\x06")
        assert b"too little memory" in refused.reply


async def test_a_gpu_is_held_for_as_long_as_its_worker_is_there() -> None:
    room = CountedRoom(CONTEXT_BYTES)
    async with running("cuda:99", room=room) as workers:
        (worker,) = workers
        await workers.compute(TEXT, SORT, PATIENCE_S)
        assert (room.held, room.free_bytes) == ([("cuda:99", CONTEXT_BYTES)], 0)
        assert isinstance(await killed_in(worker, LONG), WorkerLost)
        assert room.free_bytes == CONTEXT_BYTES
        room.free_bytes = 0
        with pytest.raises(Busy, match="too little memory"):
            await workers.compute(TEXT, SORT, PATIENCE_S)
