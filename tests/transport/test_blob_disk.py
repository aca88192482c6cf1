"""What is done on the disk for a task is undone there, whenever the task is cancelled."""

from __future__ import annotations

import asyncio
import threading

from transport.blob_disk import Disk


async def test_what_is_held_is_released_though_its_holder_is_cancelled_while_it_lets_go() -> None:
    disk, released, may_go_on = Disk(), threading.Event(), threading.Event()
    lets_go = asyncio.Event()

    async def hold() -> None:
        async with disk.holding(lambda: 1, lambda held: released.set()):
            disk.start(may_go_on.wait, 10.0)  # so that the release has to wait for its turn
            lets_go.set()

    async with asyncio.TaskGroup() as group:
        holding = group.create_task(hold())
        await lets_go.wait()
        await asyncio.sleep(0)
        holding.cancel()
        await asyncio.wait([holding])
        may_go_on.set()
    await asyncio.to_thread(disk.close)
    assert released.is_set()
