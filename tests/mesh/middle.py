"""Somebody in the middle: a real endpoint that is dialled in place of another, and dials that one in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from transport.errors import MeshError
from transport.identity import NodeKey
from transport.interface import Address
from transport.quic.connection import QuicPeerConnection
from transport.quic.endpoint import Endpoint
from transport.quic.session import SessionFactory
from transport.quic.udp import UdpSocket

Play = Callable[[QuicPeerConnection, QuicPeerConnection], Awaitable[None]]
"""What to do with the victim's connection and one to the true server, both with TLS complete."""


@dataclass
class Middle:
    """address: where victims come.  heard: what was passed on, in order.  bindings: of the two TLS sessions."""

    address: Address
    heard: list[bytes] = field(default_factory=list)
    bindings: list[bytes] = field(default_factory=list)
    has_played: asyncio.Event = field(default_factory=asyncio.Event)

    async def pass_on(self, source: QuicPeerConnection, target: QuicPeerConnection) -> None:
        """Carry one message of the greeting from one session to the other, word for word."""
        message = await source.greeting.receive()
        self.heard.append(message)
        target.greeting.send(message)

    async def relay(self, victim: QuicPeerConnection, server: QuicPeerConnection) -> None:
        """Play each end to the other to the last word."""
        await self.pass_on(server, victim)
        await self.pass_on(victim, server)
        await self.pass_on(server, victim)


@asynccontextmanager
async def in_the_middle(key: NodeKey, server: Address, play: Callable[[Middle], Play]) -> AsyncIterator[Middle]:
    """Stand between victims and the node at `server`. key: for TLS, which nobody checks."""
    async with asyncio.TaskGroup() as group:
        udp = UdpSocket(Address("127.0.0.1", 0))
        middle = Middle(Address("127.0.0.1", udp.port))

        async def meet(victim: QuicPeerConnection) -> None:
            onward = endpoint.dial((server.host, server.port))
            try:
                async with asyncio.timeout(60):
                    middle.bindings += [await victim.secured, await onward.secured]
                    await play(middle)(victim, onward)
            except MeshError:
                pass  # one of the two has hung up, which is how it should end
            finally:
                middle.has_played.set()

        def accepted(victim: QuicPeerConnection) -> None:
            group.create_task(meet(victim))

        endpoint = Endpoint(udp, SessionFactory(key, 1_800_000_000.0), accepted)
        try:
            yield middle
        finally:
            endpoint.close("done")
