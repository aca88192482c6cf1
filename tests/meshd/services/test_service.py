"""In which order services start and stop, and that no two of them bring the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshd.services.service import Service, merged, run_services


class Story:
    """Services that write down what happens to them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def service(self, name: str) -> Service:
        return Service(
            name,
            works=lambda: {name: self._work(name)},
            late_works=lambda: {f"late {name}": self._work(f"late {name}")},
            farewell=lambda: self._farewell(name),
            block=self._block(name),
        )

    async def _work(self, name: str) -> None:
        self.events.append(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            self.events.append(f"{name} ends")

    async def _farewell(self, name: str) -> None:
        self.events.append(f"{name} says farewell")

    @asynccontextmanager
    async def _block(self, name: str) -> AsyncIterator[None]:
        self.events.append(f"{name} opens")
        try:
            yield
        finally:
            self.events.append(f"{name} closes")


async def at_once() -> None:
    """Told to stop as soon as everything has begun."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_order_of_start_and_stop() -> None:
    story = Story()
    await run_services([story.service("a"), story.service("b")], at_once, lambda: story.events.append("ready"))
    assert story.events == [
        *("a opens", "b opens", "ready", "a begins", "b begins", "late a begins", "late b begins"),
        *("a says farewell", "b says farewell"),
        *("late b ends", "late a ends", "b ends", "a ends", "b closes", "a closes"),
    ]


async def test_nobody_is_told_that_it_is_ready_before_every_door_is_open() -> None:
    events: list[str] = []
    opened = asyncio.Event()

    async def open_slowly() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        events.append("open")
        opened.set()

    door = Service("door", works=lambda: {"door": open_slowly()}, ready=[opened])
    await run_services([door], at_once, lambda: events.append("ready"))
    assert events == ["open", "ready"]


async def test_a_work_that_fails_ends_the_others_and_closes_what_was_open() -> None:
    story = Story()

    async def fail() -> None:
        await at_once()
        raise RuntimeError("a bug")

    broken = Service("broken", works=lambda: {"broken": fail()})
    with pytest.raises(ExceptionGroup) as caught:
        await run_services([story.service("a"), broken], asyncio.Event().wait, lambda: None)
    assert caught.group_contains(RuntimeError, match="a bug")
    assert {"a ends", "a closes"} <= set(story.events)
    assert "a says farewell" not in story.events


async def test_a_failure_before_everything_is_ready_is_no_endless_wait() -> None:
    async def fail() -> None:
        raise OSError("no such door")

    with pytest.raises(ExceptionGroup):
        await run_services(
            [Service("door", works=lambda: {"door": fail()}, ready=[asyncio.Event()])], at_once, lambda: None
        )


def test_two_services_with_the_same_name_for_something_are_refused() -> None:
    assert merged([{"a": 1}, {"b": 2}]) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="two services bring b"):
        merged([{"b": 1}, {"a": 2, "b": 2}])
