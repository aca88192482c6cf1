"""A stream that nobody reads leaves its siblings on the same connection at least 80 % of their fair share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.transport.quic_mesh import two_members, until_connected
from tests.transport.sharing import FAIR, Case, slowest_share
from transport import virtual_time
from transport.interface import NodeId
from transport.memory import MemoryNetwork, MemoryTransport
from transport.quic import QuicTransport

pytestmark = pytest.mark.live

A = NodeId(b"\x01" * 32)
B = NodeId(b"\x02" * 32)

WINDOW_BYTES = 1 << 17
ROUNDS = 8
"""On a shared machine one round may be slowed by strangers; a stream that holds up its siblings slows every one."""

CASES = {
    "one of eight, never read": Case(siblings=7, stalled=1),
    "one of eight, after its window grew": Case(siblings=7, stalled=1, read_first_bytes=4 << 20),
    "eight of sixteen, never read": Case(siblings=8, stalled=8),
    "most of two hundred, never read": Case(siblings=8, stalled=192),
}


@asynccontextmanager
async def over_memory() -> AsyncIterator[tuple[MemoryTransport, MemoryTransport]]:
    """5 ms apart, so that windows are what limits a stream."""
    network = MemoryNetwork(seed=1, delay_s=0.005)
    async with (
        network.transport(A, window_bytes=WINDOW_BYTES) as one,
        network.transport(B, window_bytes=WINDOW_BYTES) as other,
    ):
        one.keep(B, other.addresses)
        other.keep(A, one.addresses)
        await until_connected(one, other)
        yield one, other


@asynccontextmanager
async def over_quic() -> AsyncIterator[tuple[QuicTransport, QuicTransport]]:
    async with two_members() as members:
        yield members


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_stalled_streams_leave_their_siblings_a_fair_share_in_virtual_time(case: Case) -> None:
    assert virtual_time.run(slowest_share(over_memory, case), seed=1) >= FAIR


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_stalled_streams_leave_their_siblings_a_fair_share_over_quic(case: Case) -> None:
    seen: list[float] = []
    while not seen or max(seen) < FAIR:
        assert len(seen) < ROUNDS, f"shares of the slowest sibling: {seen}"
        seen.append(await slowest_share(over_quic, case))
