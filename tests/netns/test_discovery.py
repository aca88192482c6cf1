"""mDNS between hosts: members find each other across a segment and across a bad wire; others do not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.namespaces import Namespace
from tests.netns.tap_bridge import TapBridge
from transport.impairment import Conditions

PATIENCE_S = 90.0
ROOT = Path(__file__).parents[2]
MESH = "11" * 16
OTHER_MESH = "22" * 16
PORT = 7842


class Seeker:
    """The seeker program on one host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self) -> Any:
        """What it finds next, as it prints it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "the seeker ended"
        return json.loads(line)


@contextlib.asynccontextmanager
async def seeking(on: Namespace, number: int, mesh: str = MESH) -> AsyncIterator[Seeker]:
    command = on.command(sys.executable, "-m", "tests.netns.seeker", mesh, str(number), str(PORT), on.host)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        yield Seeker(process)
    finally:
        process.kill()
        await process.wait()


async def test_members_on_a_segment_find_each_other_and_a_stranger_finds_nobody(segment: list[Namespace]) -> None:
    one, two, three = segment
    async with seeking(three, 3, OTHER_MESH) as stranger, seeking(one, 1) as first, seeking(two, 2) as second:
        assert await first.next() == {"node": 2, "addresses": [[two.host, PORT]]}
        assert await second.next() == {"node": 1, "addresses": [[one.host, PORT]]}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stranger.next()


async def test_members_find_each_other_across_a_slow_and_lossy_wire(
    wire: tuple[Namespace, Namespace, TapBridge],
) -> None:
    one, two, bridge = wire
    bad = Conditions(delay_s=0.04, jitter_s=0.01, loss=0.2)
    bridge.change(bad, bad)
    async with seeking(one, 1) as first, seeking(two, 2) as second:
        assert await first.next() == {"node": 2, "addresses": [[two.host, PORT]]}
        assert await second.next() == {"node": 1, "addresses": [[one.host, PORT]]}


async def test_where_words_go_one_way_only_the_listener_finds(wire: tuple[Namespace, Namespace, TapBridge]) -> None:
    one, two, bridge = wire
    bridge.cut(there=False)
    async with seeking(one, 1) as mute, seeking(two, 2) as listener:
        assert await listener.next() == {"node": 1, "addresses": [[one.host, PORT]]}
        bridge.mend()
        assert await mute.next() == {"node": 2, "addresses": [[two.host, PORT]]}
