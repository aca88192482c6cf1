"""The local network around this node: whether to take part in mDNS there, and whom to follow on its word.

`transport.discovery` hears and announces; admission decides who is who. Whom we follow here is dialled, no more.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from meshd.asking import J, Say, Visitor, look_at
from meshd.banner import other_mesh_lines
from meshd.config import is_loopback
from meshd.status import Surroundings
from transport.advertisement import Found
from transport.discovery import Discovery
from transport.interface import Address, NodeId

MAX_UNPROVED = 32
"""Nodes followed though gossip knows nothing of them: each costs dials, and anyone on the network can invent some."""

MEET_AFTER_S = 3.0
"""Enough for the first answers of a network that loses some."""

Meet = Callable[[Sequence[Address]], Awaitable[None]]
Seed = Callable[[Iterable[tuple[NodeId, tuple[Address, ...]]]], None]


async def tell_founder(visitor: Visitor[J], name: str, addresses: Sequence[Address], say: Say) -> None:
    """Tell who founded a mesh that there is one already. name: of the mesh that was wanted, empty for any."""
    doors = [door for door in await look_at(visitor, addresses) if name in ("", door.seen.name)]
    for line in other_mesh_lines({door.seen.name: str(door) for door in reversed(doors)}):
        say(line)


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
    """One node's part in its local network. silence: why it has none, else empty.

    meet: called once, `MEET_AFTER_S` after the start, with addresses of other meshes' nodes, if there are any.
    """

    def __init__(self, silence: str, discovery: Discovery, meet: Meet | None = None) -> None:
        self._silence = silence
        self._discovery = discovery
        self._meet = meet

    async def run(self) -> None:
        """Find and be found until cancelled."""
        if self._silence:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._discovery.run(), name="mdns")
            if self._meet is not None:
                group.create_task(self._meet_others(self._meet), name="meet other meshes")

    async def _meet_others(self, meet: Meet) -> None:
        await asyncio.sleep(MEET_AFTER_S)
        addresses = [address for mesh in self._discovery.other_meshes for address in mesh.addresses]
        if addresses:
            await meet(addresses)

    @property
    def surroundings(self) -> Surroundings:
        """For the status."""
        if self._silence:
            return Surroundings(is_listening=False, problem=self._silence)
        return Surroundings(True, self._discovery.problem, self._discovery.other_meshes)
