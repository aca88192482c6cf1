"""Open pages are told what changes, whole and once, and no more than so many of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llm.changes import Changes
from meshd.console.feed import MAX_READERS, Feed, TooManyReaders
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(feed.run())
        await asyncio.sleep(0)
        yield task
        task.cancel()


def said(events: bytes) -> dict[str, Any]:
    """The last of each event."""
    found = {}
    for block in events.decode().split("\n\n"):
        if block.startswith("event: "):
            head, data = block.split("\n")
            found[head.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
    return found


async def test_a_page_gets_the_present_first_and_then_only_what_changed() -> None:
    now, changes = {"status": 1, "activity": 1}, Changes()
    feed = Feed({"status": lambda: now["status"], "activity": lambda: now["activity"]}, [changes.wait])
    async with running(feed):
        events = feed.events()
        assert said(await anext(events)) == {"status": 1, "activity": 1}
        now["status"] = 2
        changes.notify()
        assert said(await anext(events)) == {"status": 2}


async def test_what_nobody_announces_is_seen_within_a_second() -> None:
    now = [1]
    feed = Feed({"status": lambda: now[0]}, [])
    events = feed.events()
    await anext(events)
    now[0] = 2
    began = asyncio.get_running_loop().time()
    assert said(await anext(events)) == {"status": 2}
    assert asyncio.get_running_loop().time() - began <= 1.001


async def test_a_quiet_stream_says_that_it_lives() -> None:
    events = Feed({"status": lambda: 1}, []).events()
    await anext(events)
    assert await anext(events) == b": still here\n\n"


async def test_streams_end_with_the_agent() -> None:
    feed = Feed({"status": lambda: 1}, [Changes().wait])
    async with running(feed) as task:
        events = feed.events()
        await anext(events)
        task.cancel()
        assert [event async for event in events] == []


async def test_so_many_pages_and_one_that_closes_makes_room() -> None:
    feed = Feed({"status": lambda: 1}, [])
    pages = [feed.events() for _ in range(MAX_READERS)]
    for page in pages:
        await anext(page)
    with pytest.raises(TooManyReaders):
        feed.events()
    await pages[0].aclose()  # type: ignore[attr-defined]
    await anext(feed.events())
