"""The jumping clock: long waits take no time, and a wait for nothing is an error."""

from __future__ import annotations

import asyncio
import time

import pytest

from transport import virtual_time
from transport.virtual_time import Deadlock, run


def test_a_day_passes_in_a_moment_and_in_order() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        times: list[float] = []

        async def note_after(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            times.append(loop.time())

        async with asyncio.TaskGroup() as group:
            for delay_s in (86400.0, 0.001, 3600.0):
                group.create_task(note_after(delay_s))
        return times

    started = time.monotonic()
    assert run(scenario()) == pytest.approx([0.001, 3600.0, 86400.0])
    assert time.monotonic() - started < 10


def test_timeouts_follow_the_virtual_clock() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1e6):
                await asyncio.sleep(2e6)

    run(scenario())


def test_waiting_for_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "DEADLOCK_AFTER_S", 0.01)

    async def scenario() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(scenario())


def test_failure_names_its_seed() -> None:
    async def scenario() -> None:
        raise ValueError("at this seed")

    with pytest.raises(ValueError) as failure:
        run(scenario(), seed=17)
    assert failure.value.__notes__ == ["seed 17"]
