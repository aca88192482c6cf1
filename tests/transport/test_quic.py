"""The QUIC transport keeps the transport contract on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from tests.transport.contract import Pair, TransportContract
from tests.transport.quic_mesh import two_members
from transport.quic.liveness import SILENCE_S

pytestmark = pytest.mark.live

# uvloop differs where it matters here: timers in milliseconds, a handle without `when`.
loop_factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with two_members() as (owner, member):
        yield Pair(owner, member, member.vanish, silence_s=SILENCE_S + 12)


class TestQuic(TransportContract):
    """The shared suite."""
