"""What workers say of a call beside its reply, and which of them gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forms.errors import NotFound
from forms.worker import Worker
from forms.worker_pipe import FRAME, TEXT
from forms.workers import Workers

SORT = b"(cuda-radix-sort '(3 1 2))"


@asynccontextmanager
async def running(*devices: str) -> AsyncIterator[Workers]:
    workers = Workers([Worker(Path("/nonexistent"), 1 << 24, device) for device in devices])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(workers.run())
        yield workers
        task.cancel()


async def test_a_reply_tells_what_it_cost_and_an_error_that_it_teaches_nothing() -> None:
    async with running("cpu") as workers:
        first = await workers.compute(TEXT, SORT, 30)
        assert (first.reply, first.form, first.work) == (b"(ok (1 2 3))\n", "cuda-radix-sort", 3.0)
        assert first.backend is not None
        assert first.seconds > 0
        assert first.is_cold
        again = await workers.compute(TEXT, SORT, 30)
        assert not again.is_cold
        for kind, wrong in ((TEXT, b"(cuda-radix-sort '(x))"), (TEXT, b"(no-such-form)"), (FRAME, b"BXXX")):
            failed = await workers.compute(kind, wrong, 30)
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
