"""What a node stands on: who it is, its transport, its gossip, its models, its sockets. The agent has made it all.

The services of `meshd.services` are made from it; whoever needs one thing of it is handed that thing.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from forms.foreign import ForeignWorker
from gossip.runner import GossipRunner
from gossip.view import View
from llm.draft.service import DraftService
from llm.engines.upstream import UpstreamOptions
from llm.host import Host
from meshd.bend import BendDoors
from meshd.config import Config
from meshd.console.door import url_of
from meshd.datadir import DataDir
from meshd.ingress import Ingress
from meshd.memory import HostMemory
from meshd.neighbourhood import Neighbourhood
from meshd.pantry import Pantry
from meshd.split import Splitting
from meshd.standing import Doorkeeper, Standing
from transport.address import format_address
from transport.certificate import MemberCertificate
from transport.interface import Role
from transport.pairing import PairingDesk


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is in its mesh, this time."""

    name: str
    boot: int
    mesh_id: bytes
    mesh_name: str
    certificate: MemberCertificate

    @property
    def role(self) -> Role:
        return self.certificate.role


@dataclass(frozen=True, slots=True)
class Offering:
    """What this node serves and how much of its memory it gives. quorum: models whose host needs a majority.

    drafter: with which it drafts for models of other nodes.
    """

    pantry: Pantry
    memory: HostMemory
    splitting: Splitting
    upstreams: tuple[UpstreamOptions, ...] = ()
    quorum: tuple[str, ...] = ()
    bend_workers: tuple[ForeignWorker, ...] = ()
    drafter: DraftService | None = None

    @property
    def host(self) -> Host:
        return self.pantry.host


@dataclass(frozen=True, slots=True)
class Listeners:
    """Sockets that are bound already, so that a taken port is known before anything starts.

    console: None where it is closed.  ingress: who may use the API.  origins: web pages that may, besides those of
    this host.  is_local: it listens on loopback only.
    """

    api: socket.socket
    console: socket.socket | None
    control: socket.socket
    ingress: Ingress
    origins: tuple[str, ...]
    is_local: bool
    bend: BendDoors | None = None


@dataclass(frozen=True, slots=True)
class Footing:
    """desk: where nodes without a token wait.  has_founded: this start made the mesh."""

    identity: Identity
    standing: Standing
    transport: Doorkeeper
    gossip: GossipRunner
    offering: Offering
    listeners: Listeners
    neighbourhood: Neighbourhood
    desk: PairingDesk
    has_founded: bool

    def view(self) -> View:
        """The mesh as it is now."""
        return self.gossip.view

    @property
    def is_client(self) -> bool:
        return self.identity.role is Role.CLIENT

    @property
    def config(self) -> Config:
        return self.offering.pantry.kitchen.config

    @property
    def directory(self) -> DataDir:
        return self.standing.belonging.directory

    def may_invite(self) -> bool:
        """Whether this node can let anybody in now."""
        return self.standing.belonging.signer(self.standing.unix_time()) is not None

    def doors(self) -> dict[str, str]:
        """Where this node can be entered, by name, as a person types it."""
        listeners = self.listeners
        return {
            "api": url_of(listeners.api),
            **({"console": url_of(listeners.console)} if listeners.console is not None else {}),
            "mesh": format_address(self.transport.addresses[0]),
            **(listeners.bend.addresses() if listeners.bend is not None else {}),
            "control": str(self.directory.control_socket),
        }
