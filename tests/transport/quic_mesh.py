"""Real QUIC endpoints on loopback, founded, joined and started for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.transport.meshes import DAY_S, Mesh
from transport.admission import Site
from transport.certificate import found_mesh
from transport.interface import Address, LinkState, NodeId, Role, Transport
from transport.invite import Invite, parse_token
from transport.quic import QuicOptions, QuicTransport
from transport.token_book import TokenBook

LOOPBACK = Address("127.0.0.1", 0)


class LiveMesh(Mesh):
    """The seeded mesh, with certificates of today."""

    def owner_now(self, boot: int = 3) -> Site:
        return replace(self.owner_site(), boot=boot)

    def member_now(self, role: Role = Role.MEMBER, boot: int = 1) -> Site:
        return replace(self.member_site(role, issued=time.time()), boot=boot)

    def invite_to(self, transport: QuicTransport, role: Role = Role.MEMBER, ttl_s: float = DAY_S) -> Invite:
        return parse_token(self.book.create(role, ttl_s, 1, transport.addresses, time.time(), self.dice))


def live_mesh(seed: int = 1) -> LiveMesh:
    """Its root and owner are seeded; its certificates date from now, because live handshakes read the clock."""
    mesh = LiveMesh(seed)
    mesh.membership = found_mesh(mesh.name, mesh.root, mesh.owner, time.time(), mesh.dice)
    mesh.book = TokenBook(mesh.owner, mesh.membership, mesh.dice(32))
    return mesh


def start(site: Site, bind: Address = LOOPBACK, options: QuicOptions | None = None) -> QuicTransport:
    return QuicTransport(site, bind, options)


def is_connected(transport: Transport, node: NodeId) -> bool:
    return any(link.node == node and link.state is LinkState.CONNECTED for link in transport.links())


async def until_connected(one: Transport, other: Transport, within_s: float = 20.0) -> None:
    """Wait without taking events, which are the test's."""
    async with asyncio.timeout(within_s):
        while not (is_connected(one, other.node) and is_connected(other, one.node)):  # noqa: ASYNC110 - the events are the test's
            await asyncio.sleep(0.01)


async def connect(one: QuicTransport, other: QuicTransport) -> None:
    one.keep(other.node, other.addresses)
    other.keep(one.node, one.addresses)
    await until_connected(one, other)


@asynccontextmanager
async def two_members(seed: int = 1) -> AsyncIterator[tuple[QuicTransport, QuicTransport]]:
    """An owner and a member of one mesh, connected."""
    mesh = live_mesh(seed)
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        yield owner, member
