"""Streams on the bulk lane keep the transport contract, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from tests.transport.contract import Pair, TransportContract
from tests.transport.quic_mesh import two_members
from transport.interface import Address, Link, Links, NodeId, Stream, StreamHeader, TransportEvent
from transport.quic import QuicTransport
from transport.quic.liveness import SILENCE_S

pytestmark = pytest.mark.live

loop_factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class OverBulk:
    """A QUIC transport whose every stream has to go over the lane. Implements `interface.Transport`."""

    def __init__(self, below: QuicTransport) -> None:
        self._below = below
        self.keep, self.drop, self.doubt = below.keep, below.drop, below.doubt
        self.send_datagram = below.send_datagram

    @property
    def node(self) -> NodeId:
        return self._below.node

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self._below.addresses

    @property
    def refusals(self) -> dict[str, int]:
        return self._below.refusals

    @property
    def board(self) -> Links:
        return self._below.board

    def links(self) -> tuple[Link, ...]:
        return self._below.links()

    async def open(self, node: NodeId, header: StreamHeader, *, bulk: bool = True) -> Stream:
        stream = await self._below.open(node, header, bulk=True)
        assert {link.carrier for link in self.links()} == {"quic+bulk"}, "the stream went over QUIC"
        return stream

    def streams(self) -> AsyncIterator[Stream]:
        return self._below.streams()

    def events(self) -> AsyncIterator[TransportEvent]:
        return self._below.events()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with two_members() as (owner, member):
        yield Pair(OverBulk(owner), OverBulk(member), member.vanish, silence_s=SILENCE_S + 12)


class TestBulk(TransportContract):
    """The shared suite."""
