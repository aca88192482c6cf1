"""Sends away peers whose membership ended while they were connected: admission looks at arrivals only."""

from __future__ import annotations

import asyncio
import logging

from gossip.runner import GossipRunner
from meshd.standing import Doorkeeper, Standing
from transport.certificate import verify_certificate
from transport.errors import Refused
from transport.identity import short
from transport.interface import Peer

logger = logging.getLogger("meshd.standing")

CHECK_S = 600.0
"""As much as clocks may differ."""


async def watch_lapses(standing: Standing, transport: Doorkeeper, gossip: GossipRunner) -> None:
    """Look every ten minutes, until cancelled."""
    while True:
        await asyncio.sleep(CHECK_S)
        close_lapsed(standing, transport, gossip)


def close_lapsed(standing: Standing, transport: Doorkeeper, gossip: GossipRunner) -> None:
    """Close what is connected on an ended certificate, unless gossip shows that its node has a newer one."""
    for peer in transport.peers():
        problem = _problem(peer, standing)
        if problem is not None and not gossip.is_certified(peer.node):
            logger.info("closing the connection with %s: %s", short(peer.node), problem)
            transport.cut(peer.node, str(problem))


def _problem(peer: Peer, standing: Standing) -> Refused | None:
    try:
        verify_certificate(peer.certificate, standing.roots, standing.membership.mesh_id, standing.unix_time())
    except Refused as refused:
        return refused
    return None
