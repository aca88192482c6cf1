"""The local network around this node: whether to take part in mDNS there, and whom to follow on its word.

`transport.discovery` hears and announces; admission decides who is who. Whom we follow here is dialled, no more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable

from meshd.config import is_loopback
from meshd.status import Surroundings
from transport.advertisement import Found
from transport.discovery import Discovery
from transport.interface import Address, NodeId

MAX_UNPROVED = 32
"""Nodes followed though gossip knows nothing of them: each costs dials, and anyone on the network can invent some."""

Seed = Callable[[Iterable[tuple[NodeId, tuple[Address, ...]]]], None]


class Introductions:
    """Passes on what mDNS found, up to `MAX_UNPROVED` nodes at a time that gossip has not confirmed.

    members: the nodes that gossip knows now.  seed: where to pass it on.
    """

    def __init__(self, members: Callable[[], Collection[NodeId]], seed: Seed) -> None:
        self._members = members
        self._seed = seed
        self._unproved: set[NodeId] = set()

    def take(self, found: Found) -> None:
        """Follow `found`, or leave it: a mesh that is larger is told of by gossip once one node has answered."""
        members = self._members()
        self._unproved.difference_update(members)
        if found.node not in members:
            if len(self._unproved) >= MAX_UNPROVED and found.node not in self._unproved:
                return
            self._unproved.add(found.node)
        self._seed([(found.node, found.addresses)])


def reason_to_be_silent(bind: Address, no_mdns: bool) -> str:
    """Why a node stays out of mDNS; empty when it takes part."""
    if no_mdns:
        return "--no-mdns"
    if is_loopback(bind.host):
        return f"this node listens on {bind.host} only, where no other host can reach it"
    return ""


def interfaces_of(bind: Address) -> tuple[str, ...]:
    """The interfaces, by address, on which mDNS can find somebody for a socket bound there; empty for all."""
    try:
        literal = ipaddress.ip_address(bind.host)
    except ValueError:
        return ()
    return () if literal.is_unspecified else (bind.host,)


class Neighbourhood:
    """One node's part in its local network. silence: why it has none, else empty."""

    def __init__(self, silence: str, discovery: Discovery) -> None:
        self._silence = silence
        self._discovery = discovery

    async def run(self) -> None:
        """Find and be found until cancelled."""
        if self._silence:
            return
        await self._discovery.run()

    @property
    def surroundings(self) -> Surroundings:
        """For the status."""
        if self._silence:
            return Surroundings(is_listening=False, problem=self._silence)
        return Surroundings(True, self._discovery.problem, self._discovery.other_meshes)
