"""What one service brings to its node, and all of them running side by side until the node is told to stop.

Start, in the order of the list: blocks are entered, works begin; once all is ready, what may come late begins.
Stop: first every service says farewell, in the order of the list, while everything still runs; then the works are
cancelled, the last first; when all have ended, the blocks are left, the last first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.routing import Route

from meshd.control import Command
from meshd.dispatch import Serve

Works = Mapping[str, Coroutine[Any, Any, None]]
T = TypeVar("T")


def no_works() -> Works:
    """For a service that only answers."""
    return {}


@dataclass(frozen=True, slots=True)
class Service:
    """Everything is by its name. works: what runs while the node does, made when it begins.

    late_works: begin when the node is ready, so that no start waits for them.  streams: who answers those that peers
    open, by protocol.  commands, routes: of the control door; routes are for what is no JSON.  ready: set once the
    service can be used.  farewell: what it tells others while all still runs.  block: open while its works run.
    """

    name: str
    works: Callable[[], Works] = no_works
    late_works: Callable[[], Works] = no_works
    streams: Mapping[str, Serve] = field(default_factory=dict)
    commands: Mapping[str, Command] = field(default_factory=dict)
    routes: Sequence[Route] = ()
    ready: Sequence[asyncio.Event] = ()
    farewell: Callable[[], Awaitable[None]] | None = None
    block: AbstractAsyncContextManager[object] | None = None


def merged(tables: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """One table of all. ValueError for a name that stands in two: one service would silently replace the other."""
    together: dict[str, T] = {}
    for table in tables:
        if twice := together.keys() & table.keys():
            raise ValueError(f"two services bring {', '.join(sorted(twice))}")
        together |= table
    return together


async def run_services(
    services: Sequence[Service], until_told: Callable[[], Awaitable[object]], on_ready: Callable[[], None]
) -> None:
    """Run until `until_told` returns. on_ready: called once every service can be used.

    A work that ends by an exception ends all of them, and that is raised in an ExceptionGroup.
    """
    async with contextlib.AsyncExitStack() as stack:
        for service in services:
            if service.block is not None:
                await stack.enter_async_context(service.block)
        async with asyncio.TaskGroup() as group:
            tasks = _begin(group, (service.works() for service in services))
            for service in services:
                for event in service.ready:
                    await event.wait()
            on_ready()
            tasks += _begin(group, (service.late_works() for service in services))
            await until_told()
            for service in services:
                if service.farewell is not None:
                    await service.farewell()
            for task in reversed(tasks):
                task.cancel()


def _begin(group: asyncio.TaskGroup, works: Iterable[Works]) -> list[asyncio.Task[None]]:
    return [group.create_task(work, name=name) for name, work in merged(works).items()]
