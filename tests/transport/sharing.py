"""Streams of one connection that share it, some of which nobody reads: what do the others get?

For tests and for `bench.stalled_streams`, over any transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from transport.errors import ResetCode
from transport.interface import Record, RecordKind, Stream, StreamHeader, Transport

FAIR = 0.8
"""What a sibling gets beside stalled streams, of what it gets without them."""

PIECE = Record(RecordKind.DATA, b"s" * 16384)
OPEN_S = 60.0
QUIET_S = 0.1
ENDLESS = float("inf")

Connect = Callable[[], AbstractAsyncContextManager[tuple[Transport, Transport]]]
"""Makes two transports that are connected to each other."""


@dataclass(frozen=True)
class Case:
    """siblings: streams that are read as fast as they come.  stalled: streams whose reader stops for good.

    read_first_bytes: what a stalled stream's reader takes before; enough of it, and its window has grown to the limit.
    warm_up_s, seconds: how long the siblings run before the count begins, and how long it counts.
    """

    siblings: int
    stalled: int
    read_first_bytes: int = 0
    warm_up_s: float = 0.3
    seconds: float = 0.7

    @property
    def without_stalled(self) -> Case:
        return replace(self, stalled=0)


class Flow:
    """A stream from one node to another, and who sends and reads on it. sent_bytes, read_bytes: so far."""

    def __init__(self, here: Stream, there: Stream) -> None:
        self.here = here
        self.there = there
        self.sent_bytes = 0
        self.read_bytes = 0

    async def send(self) -> None:
        while True:
            await self.here.send(PIECE)
            self.sent_bytes += len(PIECE.payload)

    async def read(self, limit_bytes: float) -> None:
        while self.read_bytes < limit_bytes:
            record = await self.there.receive()
            assert record is not None
            self.read_bytes += len(record.payload)


async def open_flow(one: Transport, other: Transport) -> Flow:
    async with asyncio.timeout(OPEN_S):
        here = await one.open(other.node, StreamHeader("share/1", "s"))
        return Flow(here, await anext(other.streams()))


@asynccontextmanager
async def flowing(one: Transport, other: Transport, count: int, limit_bytes: float) -> AsyncIterator[Sequence[Flow]]:
    """`count` flows at work, reset with the block. Those with a limit have come to a stop when it begins."""
    flows = [await open_flow(one, other) for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(flow.send()) for flow in flows]
        reading = [group.create_task(flow.read(limit_bytes)) for flow in flows]
        try:
            if limit_bytes < ENDLESS:
                await asyncio.gather(*reading)
                await quiet(other)
            yield flows
        finally:
            for task in (*sending, *reading):
                task.cancel()
            for flow in flows:
                flow.here.reset(ResetCode.CANCELLED)
                flow.there.reset(ResetCode.CANCELLED)


async def quiet(transport: Transport) -> None:
    """Wait until next to nothing arrives any more."""
    before = -len(PIECE.payload)
    while (now := sum(link.bytes_received for link in transport.links())) - before >= len(PIECE.payload):
        before = now
        await asyncio.sleep(QUIET_S)


async def shares(connect: Connect, case: Case) -> list[float]:
    """Bytes per second that each sibling's reader got, beside the stalled streams."""
    async with (
        connect() as (one, other),
        flowing(one, other, case.stalled, case.read_first_bytes) as stalled,
        flowing(one, other, case.siblings, ENDLESS) as siblings,
    ):
        await asyncio.sleep(case.warm_up_s)
        read_before = [flow.read_bytes for flow in siblings]
        stuck_at = [flow.sent_bytes for flow in stalled]
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(case.seconds)
        elapsed_s = loop.time() - start
        assert [flow.sent_bytes for flow in stalled] == stuck_at, "a stream that nobody reads went on"
        return [(flow.read_bytes - before) / elapsed_s for flow, before in zip(siblings, read_before, strict=True)]


async def slowest_share(connect: Connect, case: Case) -> float:
    """What the slowest sibling got beside stalled streams, of a fair share of what all got without them."""
    alone = await shares(connect, case.without_stalled)
    beside = await shares(connect, case)
    return min(beside) * case.siblings / sum(alone)
