"""A node with all that belongs to membership and nothing else: transport, gossip, standing, news, renewals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gossip.runner import PROTOCOL as GOSSIP_PROTOCOL
from gossip.runner import GossipRunner
from meshd.dispatch import Dispatch
from meshd.footing import Identity
from meshd.joining import Joining
from meshd.mesh_news import MeshNews
from meshd.renewals import Renewals
from meshd.services.membership import make_gossip
from meshd.standing import Standing
from tests.transport.quic_mesh import LOOPBACK
from transport import forwarding, renewal
from transport.interface import NodeId, Role
from transport.quic import QuicOptions, QuicTransport


@dataclass
class StandingNode:
    standing: Standing
    transport: QuicTransport
    gossip: GossipRunner

    @property
    def node(self) -> NodeId:
        return self.transport.node

    def sees(self, other: StandingNode) -> bool:
        entry = self.gossip.view.get(other.node)
        return entry is not None and entry.is_usable


@asynccontextmanager
async def standing_node(standing: Standing, role: Role = Role.MEMBER) -> AsyncIterator[StandingNode]:
    """Run as the agent would, on the real clock."""
    site = standing.belonging.site(role.value, 1, role, time.time())
    mesh = standing.membership
    identity = Identity(role.value, 1, mesh.mesh_id, mesh.mesh_name, standing.certificate())

    async def save_redemption(token_id: bytes) -> None:
        standing.save_redemption()

    options = QuicOptions(learn=standing.learn, save_redemption=save_redemption)
    async with QuicTransport(site, LOOPBACK, options) as transport:
        standing.follow(lambda: transport.revise(standing.site(transport.site)))
        gossip = make_gossip(identity, standing, transport, standing.belonging.directory)
        renewals = Renewals(standing, transport, gossip, random.Random(1))
        services = {
            GOSSIP_PROTOCOL: gossip.serve,
            forwarding.PROTOCOL: Joining(standing, transport).serve,
            renewal.PROTOCOL: renewals.serve,
        }
        async with asyncio.TaskGroup() as group:
            works = (Dispatch(services).run(transport), gossip.run(), MeshNews(standing, gossip).run(), renewals.run())
            tasks = [group.create_task(work) for work in works]
            yield StandingNode(standing, transport, gossip)
            for task in tasks:
                task.cancel()


async def meet(one: StandingNode, other: StandingNode) -> None:
    """Connect two nodes and wait until each knows the other."""
    one.gossip.seed([(other.node, other.transport.addresses)])
    other.gossip.seed([(one.node, one.transport.addresses)])
    async with asyncio.timeout(60):
        while not (one.sees(other) and other.sees(one)):  # noqa: ASYNC110 - several tasks away
            await asyncio.sleep(0.02)
