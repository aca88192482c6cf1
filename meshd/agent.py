"""Starts this host's agent: settings, keys, sockets, transport, and belonging to a mesh; then it is a node.

The only module that names the concrete transport. Everything is opened in order on one stack and closed
in the opposite one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gossip.runner import GossipRunner
from gossip.view import View
from llm.gguf import BadModelFile
from llm.models.shelf import ShelfDamaged
from meshd.asking import Asking
from meshd.belonging import Ask, Belonging, CannotBelong, Found, Join, Plan, Return, decide, load
from meshd.config import Config
from meshd.datadir import DataDir, DataDirBusy, DataDirDamaged
from meshd.footing import Footing, Identity
from meshd.keys import BadKeys
from meshd.listening import open_listeners
from meshd.model_specs import BadModelSpec
from meshd.neighbourhood import Introductions, Neighbourhood, interfaces_of, reason_to_be_silent, tell_founder
from meshd.node import Node
from meshd.offering import make_offering, read_wishes
from meshd.ports import Door, NoSuchAddress, PortTaken, naming_the_holder
from meshd.services.membership import make_gossip
from meshd.standing import Standing, UnixTime
from transport.address import parse_address
from transport.discovery import Discovery, look_around
from transport.errors import BadToken, MeshError
from transport.interface import Address, NodeId, Role
from transport.invite import Invite, parse_token
from transport.pairing import PairingDesk
from transport.quic import Joined, QuicOptions, QuicTransport

logger = logging.getLogger("meshd.agent")

JOIN_TIMEOUT_S = 20.0
LOOK_AROUND_S = 2.0

Say = Callable[[str], None]


class CannotStart(Exception):
    """The agent cannot run as it was told; the message says why and what to do."""


KNOWN_CAUSES = (
    *(
        BadKeys,
        BadModelSpec,
        BadModelFile,
        BadToken,
        CannotBelong,
        DataDirBusy,
        DataDirDamaged,
        PortTaken,
        NoSuchAddress,
        MeshError,
        ShelfDamaged,
    ),
    ValueError,
)


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """root: where the agent writes, for what the system does not say."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CannotStart(
                f"there is no room left on the disk of {root}: make some, or name another --data-dir"
            ) from error
        raise CannotStart(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except KNOWN_CAUSES as error:
        raise CannotStart(str(error)) from error


@dataclass(frozen=True, slots=True)
class Agent:
    """One host's agent. say: prints a line for the person who started it.  unix_time: the wall clock."""

    config: Config
    directory: DataDir
    say: Say
    unix_time: UnixTime = time.time

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises CannotStart before anything of it runs."""
        async with self.started(stop) as node:
            await node.run(stop, self.say)

    @contextlib.asynccontextmanager
    async def started(self, stop: asyncio.Event) -> AsyncIterator[Node]:
        """The node, in its mesh and ready to run, while all that it stands on is open. Raises CannotStart."""
        async with contextlib.AsyncExitStack() as stack:
            with _explained(self.directory.root):
                node = await self._start(stack, stop)
            yield node

    async def _start(self, stack: contextlib.AsyncExitStack, stop: asyncio.Event) -> Node:
        wishes = read_wishes(self.config)
        invites = [parse_token(text) for text in self.config.join]
        bind = parse_address(self.config.bind)
        silence = reason_to_be_silent(bind, self.config.no_mdns)
        belonging = self._open_directory(stack)
        plan = self._decide(belonging, invites, silence)
        standing = Standing(belonging, self.unix_time, os.urandom)
        listeners = open_listeners(self.config, self.directory, self.unix_time, stack)
        offering = make_offering(self.config, self.directory, wishes)
        desk = PairingDesk()
        with naming_the_holder(Door("udp", bind.host, bind.port, "--bind [::]:{port}")):
            transport = await stack.enter_async_context(self._transport(standing, plan, bind, desk))
        places = await self._belong(transport, standing, plan, stop)
        identity = self._identity(transport, standing)
        gossip = self._follow_the_mesh(identity, standing, transport, places)
        has_founded = identity.role is Role.OWNER and not isinstance(plan, Return)
        around = self._neighbourhood(silence, identity, transport, gossip, has_founded)
        return Node(Footing(identity, standing, transport, gossip, offering, listeners, around, desk, has_founded))

    def _open_directory(self, stack: contextlib.AsyncExitStack) -> Belonging:
        """This directory is ours alone from here on."""
        self.directory.create()
        stack.enter_context(self.directory.locked())
        self.directory.claim_format()
        belonging = load(self.directory, os.urandom)
        belonging.renew_as_owner(self.unix_time(), os.urandom)
        return belonging

    def _decide(self, belonging: Belonging, invites: Sequence[Invite], silence: str) -> Plan:
        """Who hears nothing of the network asks nobody on it to be let in."""
        asks_for = "" if silence else self.config.mesh
        plan = decide(belonging.papers(self.unix_time()), invites, self.config.client, asks_for)
        self._note_the_mesh(plan)
        return plan

    def _follow_the_mesh(
        self,
        identity: Identity,
        standing: Standing,
        transport: QuicTransport,
        places: Iterable[tuple[NodeId, tuple[Address, ...]]],
    ) -> GossipRunner:
        """From here on transport and gossip go by what changes in the standing. places: of nodes of the mesh."""
        standing.settle()
        standing.follow(lambda: transport.revise(standing.site(transport.site)))
        gossip = make_gossip(identity, standing, transport, self.directory)
        transport.revise(replace(transport.site, highest_boot=lambda node: _boot_seen(gossip.view, node)))
        gossip.seed(places)
        return gossip

    def _note_the_mesh(self, plan: Plan) -> None:
        """Who asks for another mesh than this node's is not left to wonder why nothing comes of it."""
        wanted = self.config.mesh
        if isinstance(plan, Return) and wanted and wanted != plan.membership.mesh_name:
            own = plan.membership.mesh_name
            self.say(f"note: this node belongs to mesh {own!r}, so --mesh {wanted!r} does nothing; first: meshd leave")

    def _neighbourhood(
        self, silence: str, identity: Identity, transport: QuicTransport, gossip: GossipRunner, has_founded: bool
    ) -> Neighbourhood:
        """A client only listens: nobody has a reason to dial it."""

        async def meet(addresses: Sequence[Address]) -> None:
            await tell_founder(transport, self.config.mesh, addresses, self.say)

        is_client = identity.role is Role.CLIENT
        introductions = Introductions(lambda: {node.node for node in gossip.view.nodes}, gossip.seed)
        discovery = Discovery(
            identity.mesh_id,
            transport.node,
            lambda: () if is_client else transport.local_addresses,
            introductions.take,
            interfaces=interfaces_of(parse_address(self.config.bind)),
        )
        return Neighbourhood(silence, discovery, meet if has_founded else None)

    def _transport(self, standing: Standing, plan: Plan, bind: Address, desk: PairingDesk) -> QuicTransport:
        now = self.unix_time()
        site = standing.belonging.site(self._name(), self.directory.next_boot(), self._role(plan), now)

        async def save_redemption(token_id: bytes) -> None:
            standing.save_redemption()

        options = QuicOptions(
            save_redemption=save_redemption,
            advertise=self._advertised(),
            learn=standing.learn,
            unix_time=self.unix_time,
            desk=desk,
            bulk=self.config.bulk == "auto",
        )
        return QuicTransport(site, bind, options)

    def _advertised(self) -> tuple[Address, ...]:
        """What --advertise names; a port that is left out is the one we listen on."""
        try:
            addresses = tuple(parse_address(text, default_port=0) for text in self.config.advertise)
        except ValueError as error:
            raise CannotStart(f"--advertise: {error}") from error
        for address in addresses:
            if address.host in ("::", "0.0.0.0"):
                raise CannotStart(f"--advertise: expected an address that others can dial, got {address.host}")
        return addresses

    def _role(self, plan: Plan) -> Role:
        match plan:
            case Found():
                return Role.OWNER
            case Join() | Ask():
                return Role.CLIENT if self.config.client else Role.MEMBER
            case Return(membership):
                return membership.verified(self.unix_time()).role

    async def _belong(
        self, transport: QuicTransport, standing: Standing, plan: Plan, stop: asyncio.Event
    ) -> list[tuple[NodeId, tuple[Address, ...]]]:
        """Found or join now that the sockets are ours, so that a start that fails leaves nothing half done.

        Returns where nodes of the mesh may be found.
        """
        match plan:
            case Found():
                self._found(transport, standing)
                return []
            case Join(invites):
                joined = await self._join(transport, standing, invites)
                return [(joined.peer.node, (joined.address,))]
            case Ask(mesh_name):
                let_in = await self._ask(transport, standing, mesh_name, stop)
                if let_in is None:
                    self._found(transport, standing)
                    return []
                return [(let_in.peer.node, (let_in.address,))]
            case Return(_, invites):
                return [(invite.issuer, invite.addresses) for invite in invites]

    def _found(self, transport: QuicTransport, standing: Standing) -> None:
        standing.belonging.found(self._mesh_name(), self.unix_time(), os.urandom)
        transport.site = replace(transport.site, role=Role.OWNER)

    async def _ask(
        self, transport: QuicTransport, standing: Standing, mesh_name: str, stop: asyncio.Event
    ) -> Joined | None:
        """Come into the mesh of that name on this network. None when there is none, for all but clients."""
        self.say(f"looking for mesh {mesh_name!r} on this network")
        meshes = await look_around(LOOK_AROUND_S, interfaces=interfaces_of(parse_address(self.config.bind)))
        addresses = [address for mesh in meshes for address in mesh.addresses]
        joined = await Asking(transport, transport.node, self.say, stop).come_in(mesh_name, addresses)
        if joined is not None:
            return self._joined(transport, standing, joined)
        if self.config.client:
            raise CannotBelong(
                f"no mesh {mesh_name!r} is to be found on this network; with a token: meshd --client --join TOKEN"
            )
        return None

    def _identity(self, transport: QuicTransport, standing: Standing) -> Identity:
        mesh, boot = standing.membership, transport.site.boot
        return Identity(self._name(), boot, mesh.mesh_id, mesh.mesh_name, standing.certificate())

    async def _join(self, transport: QuicTransport, standing: Standing, invites: tuple[Invite, ...]) -> Joined:
        """Redeem the first invitation that is honoured. Raises what the last one met."""
        *others, last = invites
        for invite in others:
            with contextlib.suppress(MeshError):
                return self._joined(transport, standing, await transport.join(invite, JOIN_TIMEOUT_S))
        return self._joined(transport, standing, await transport.join(last, JOIN_TIMEOUT_S))

    def _joined(self, transport: QuicTransport, standing: Standing, joined: Joined) -> Joined:
        standing.belonging.accept(joined.membership)
        if joined.highest_boot is not None and joined.highest_boot >= transport.site.boot:
            # The boot file was lost; peers would take this start for an older one.
            transport.site = replace(transport.site, boot=self.directory.next_boot(joined.highest_boot))
        return joined

    def _name(self) -> str:
        return (self.config.name or platform.node() or "node")[:64]

    def _mesh_name(self) -> str:
        return self.config.mesh or f"{self._name()[:50]}-mesh"


def _boot_seen(view: View, node: NodeId) -> int | None:
    """What heals a joiner whose boot file was lost."""
    entry = view.get(node)
    return entry.boot if entry is not None else None
