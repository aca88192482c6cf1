"""A deadline over many waits ends the one that it meets, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from llm.deadline import Deadline
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


def now() -> float:
    return asyncio.get_running_loop().time()


def never_called() -> Awaitable[None]:
    raise AssertionError("no step after the deadline")


async def test_waits_before_it_are_left_alone_and_the_one_across_it_ends() -> None:
    deadline = Deadline(now() + 10)
    assert await deadline.wait(lambda: asyncio.sleep(4, "first")) == "first"
    await deadline.wait(lambda: asyncio.sleep(4))
    with pytest.raises(TimeoutError):
        await deadline.wait(lambda: asyncio.sleep(4))
    assert now() == 10
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_passing_between_two_waits_ends_the_next_and_not_the_task() -> None:
    deadline = Deadline(now() + 1)
    await deadline.wait(lambda: asyncio.sleep(0.5))
    await asyncio.sleep(5)
    with pytest.raises(TimeoutError):
        await deadline.wait(never_called)


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def wait() -> None:
        await Deadline(now() + 10).wait(lambda: asyncio.sleep(100))

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait())
        await asyncio.sleep(1)
        waiting.cancel()
    assert waiting.cancelled()


async def test_a_cancellation_at_the_same_moment_wins() -> None:
    async def wait() -> None:
        await Deadline(now() + 1).wait(lambda: asyncio.sleep(100))

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(1, waiting.cancel)
    assert waiting.cancelled()


async def test_errors_pass_through() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await Deadline(now() + 1).wait(fail)


async def test_closed_it_never_expires() -> None:
    deadline = Deadline(now() + 1)
    deadline.close()
    deadline.close()
    assert await deadline.wait(lambda: asyncio.sleep(5, "late")) == "late"
