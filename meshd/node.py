"""A node that belongs to a mesh: gossip, models and doors running side by side until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from forms.blobs import FormBlobs, nearest_first
from forms.call_message import PROTOCOL as FORM_PROTOCOL
from forms.foreign import ForeignWorker
from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.lease_message import PROTOCOL as LEASE_PROTOCOL
from gossip.member import LocalNode
from gossip.runner import PROTOCOL as GOSSIP_PROTOCOL
from gossip.runner import GossipRunner
from gossip.timing import LAN
from gossip.trust import CertificateVerifier
from llm.chat import CHAT_PROTOCOL
from llm.client import Router
from llm.draft.message import PROTOCOL as DRAFT_PROTOCOL
from llm.draft.service import DraftService
from llm.engines.booking import SharedMemory
from llm.engines.upstream import Upstream, UpstreamOptions
from llm.host import Host
from llm.hosting import claim_hosting
from llm.models.fetch import Fetcher
from llm.models.message import PROTOCOL as FILES_PROTOCOL
from llm.offer import MODELS_FACT
from llm.split.message import PROTOCOL as SPLIT_PROTOCOL
from llm.split.worker import SplitWorker
from llm.upstream_models import serve_upstream
from meshd.api import Api
from meshd.attest.race_message import PROTOCOL as POC_PROTOCOL
from meshd.attest.worth import Trust
from meshd.attestations import Attestations
from meshd.banner import Welcome, welcome_lines
from meshd.bend import BendDoors
from meshd.bender import Bender
from meshd.bending import Bending, make_bending
from meshd.bending import Surroundings as FormSurroundings
from meshd.blob_commands import BlobCommands
from meshd.bringer import Bringer
from meshd.clocks import PROTOCOL as CLOCK_PROTOCOL
from meshd.clocks import Clocks
from meshd.commands import DEFAULT_TTL_S, Commands
from meshd.console.door import ConsoleDoor, url_of
from meshd.control import Command, control_app
from meshd.datadir import DataDir
from meshd.describe import describe_host
from meshd.dispatch import Dispatch, Serve
from meshd.form_commands import FormCommands
from meshd.http_server import serve_http
from meshd.ingress import Ingress
from meshd.introducers import introducers
from meshd.joining import Joining
from meshd.lapses import watch_lapses
from meshd.leases import Leases
from meshd.loaded import LOADED_AT
from meshd.memory import HostMemory
from meshd.mesh_news import MeshNews
from meshd.metrics.telemetry import Telemetry, make_telemetry
from meshd.model_commands import ModelCommands
from meshd.model_finder import ModelFinder
from meshd.model_reader import ModelReader
from meshd.neighbourhood import Neighbourhood
from meshd.origin_guard import OriginGuard
from meshd.owner_commands import OwnerCommands
from meshd.pairing_commands import PairingCommands
from meshd.pantry import Pantry
from meshd.planning import PlanCommand
from meshd.racing import CLIENT_COMMANDS, RaceSurroundings, Racing, make_racing
from meshd.renewals import Renewals
from meshd.split import MeshParts, Splitting, work_for_others
from meshd.standing import Doorkeeper, Standing
from meshd.status import MemoryNow, Situation, build_health, build_models
from meshd.tunnels import PROTOCOL as TUNNEL_PROTOCOL
from meshd.tunnels import Tunnels, make_tunnels
from transport.address import format_address
from transport.blob_message import PROTOCOL as BLOB_PROTOCOL
from transport.blobs import Blobs
from transport.certificate import MemberCertificate
from transport.forwarding import PROTOCOL as JOIN_PROTOCOL
from transport.interface import Address, NodeId, Role
from transport.pairing import PairingDesk
from transport.renewal import PROTOCOL as RENEW_PROTOCOL

logger = logging.getLogger("meshd.node")

LEAVE_DEADLINE_S = 1.0


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


def make_gossip(identity: Identity, standing: Standing, transport: Doorkeeper, directory: DataDir) -> GossipRunner:
    """The gossip of a node that belongs to a mesh, which follows what that goes by."""
    key, clock = standing.belonging.key, standing.unix_time
    me = LocalNode.of(identity.certificate, key, identity.name, identity.boot, transport.addresses)
    verifier = CertificateVerifier(standing.roots, identity.mesh_id, clock, lambda: standing.revoked)
    engine = Engine(me, verifier, LAN, random.Random(), time.monotonic())
    book = AddressBook(directory.addresses, clock)
    runner = GossipRunner(transport, engine, book, on_doubt=transport.doubt, on_raise_boot=directory.keep_boot)
    shown = me.certificate

    def follow() -> None:
        nonlocal shown
        verifier.follow(standing.roots)
        if standing.membership.certificate != shown:
            shown = standing.membership.certificate
            runner.recertify(shown, standing.certificate().serial)
        runner.recheck()

    standing.follow(follow)
    return runner


@dataclass(slots=True)
class Node:
    """Everything that runs. desk: where nodes without a token wait.  has_founded: this start made the mesh."""

    identity: Identity
    standing: Standing
    transport: Doorkeeper
    gossip: GossipRunner
    offering: Offering
    listeners: Listeners
    neighbourhood: Neighbourhood
    desk: PairingDesk
    has_founded: bool
    attestations: Attestations = field(init=False)
    tunnels: Tunnels = field(init=False)
    leases: Leases = field(init=False)
    bringer: Bringer = field(init=False)
    upstreams: tuple[Upstream, ...] = field(init=False)
    blobs: Blobs = field(init=False)
    bending: Bending = field(init=False)
    racing: Racing = field(init=False)
    telemetry: Telemetry = field(init=False)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.attestations = self._make_attestations()
        self.tunnels = make_tunnels(self.transport)
        fences = self.standing.belonging.directory.root / "fences"
        room, quorum = self.offering.splitting.room, self.offering.quorum
        pantry = self.offering.pantry
        finder = ModelFinder(self.transport, self.gossip, pantry.digests)
        shared = SharedMemory(pantry.kitchen.residence, self.offering.memory.take_over, self.offering.memory.look_again)
        self.upstreams = tuple(Upstream(one, shared) for one in self.offering.upstreams)
        self.bringer = Bringer(pantry, finder, Fetcher(self.transport, pantry.folder))
        self.blobs = Blobs(self.transport, pantry.lending.store)
        self.bending = self._make_bending()
        self.racing = self._make_racing()
        self.telemetry = make_telemetry(self.situation, self.offering.host.waiting)
        self.telemetry.forms.attach(self.bending.session.here, self.identity.name)
        self.leases = Leases(fences, self.transport, lambda: self.gossip.view, room, quorum)

    async def run(self, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        """Run until `stop` is set or a person says `meshd leave`."""
        async with self.blobs, asyncio.TaskGroup() as group:
            accepting = [asyncio.Event(), asyncio.Event()]
            tasks = [group.create_task(work, name=name) for name, work in self._works(accepting).items()]
            for event in accepting:
                await event.wait()
            for line in welcome_lines(self._welcome()):
                say(line)
            # After everything else: its library takes a tenth of a second to load, which no start waits for.
            tasks.append(group.create_task(self.neighbourhood.run(), name="neighbourhood"))
            await self._until_told(stop)
            await self.gossip.leave(LEAVE_DEADLINE_S)
            await self.leases.keeper.leave(LEAVE_DEADLINE_S)
            for task in reversed(tasks):
                task.cancel()
        if self._leaving.is_set():
            self.standing.belonging.forget()

    def _works(self, accepting: list[asyncio.Event]) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs while the node does, by name. accepting: set once the API and the control socket are open."""
        worker = self.offering.splitting.attach(
            MeshParts(
                self.gossip,
                self.transport,
                self.tunnels,
                self.offering.host,
                self.leases,
                self.attestations.believed,
            )
        )
        renewals = Renewals(self.standing, self.transport, self.gossip, random.Random())
        works: dict[str, Coroutine[Any, Any, None]] = {
            "gossip": self.gossip.run(),
            "dispatch": Dispatch(self._peer_services(worker, renewals)).run(self.transport),
            "mesh news": MeshNews(self.standing, self.gossip).run(),
            "renewals": renewals.run(),
            "telemetry": self.telemetry.follow(self.gossip),
            "lapses": watch_lapses(self.standing, self.transport, self.gossip),
            "attestations": self.attestations.run(),
        }
        return works | self._local_services(accepting) | self._form_works() | self._hosting_works(worker)

    def _peer_services(self, worker: SplitWorker, renewals: Renewals) -> dict[str, Serve]:
        """Who answers the streams that peers open, by protocol. A client computes forms for nobody."""
        is_client = self.identity.role is Role.CLIENT
        computing: dict[str, Serve] = {} if is_client else {FORM_PROTOCOL: self.bending.door.serve}
        computing |= {} if is_client else {POC_PROTOCOL: self.racing.races.serve}
        if self.offering.drafter is not None:
            computing[DRAFT_PROTOCOL] = self.offering.drafter.serve
        return computing | {
            GOSSIP_PROTOCOL: self.gossip.serve,
            CHAT_PROTOCOL: self.offering.host.serve,
            JOIN_PROTOCOL: Joining(self.standing, self.transport).serve,
            RENEW_PROTOCOL: renewals.serve,
            TUNNEL_PROTOCOL: self.tunnels.server.serve,
            LEASE_PROTOCOL: self.leases.service.serve,
            SPLIT_PROTOCOL: worker.serve,
            CLOCK_PROTOCOL: self._clocks().serve,
            FILES_PROTOCOL: self.offering.pantry.lending.serve,
            BLOB_PROTOCOL: self.blobs.serve,
        }

    def _local_services(self, accepting: list[asyncio.Event]) -> dict[str, Coroutine[Any, Any, None]]:
        """What programs on this host talk to."""
        router = Router(self.offering.host, self.transport, self.gossip, self.gossip.hint, self.attestations.believed)
        situation = self.situation
        api: ASGIApp = Api(
            router,
            self.listeners.ingress,
            lambda: build_models(situation()),
            lambda: build_health(situation()),
            self.bringer.find,
            self.telemetry.requests,
        )
        owner = OwnerCommands(self.standing, self.transport, lambda: self.gossip.view)
        commands = (
            self._commands().table()
            | self._pairing_commands().table()
            | self._model_commands().table()
            | self._plan_command().table()
            | self._clocks().table()
            | BlobCommands(self.bending.blobs).table()
            | (CLIENT_COMMANDS if self.identity.role is Role.CLIENT else self.racing.table())
        )
        calls = FormCommands(self._bender(), lambda: self.gossip.view)
        control = control_app(commands | owner.table() | calls.table(), calls.routes())
        doors: dict[str, Coroutine[Any, Any, None]] = {
            "api": serve_http(
                OriginGuard(api, self.listeners.origins, self.listeners.is_local), self.listeners.api, accepting[0]
            ),
            "control": serve_http(control, self.listeners.control, accepting[1]),
        }
        return doors | self._console(commands, api)

    def _form_works(self) -> dict[str, Coroutine[Any, Any, None]]:
        bend, bending = self.listeners.bend, self.bending
        doors = bend.works(bending.operations, bending.blobs) if bend is not None else {}
        return doors | bending.works(None if self.identity.role is Role.CLIENT else self.gossip.publish)

    def _make_attestations(self) -> Attestations:
        standing, trust = self.standing, Trust(self.offering.pantry.kitchen.config.trust)
        key, clock = standing.belonging.key, standing.unix_time
        return Attestations(key, self.identity.mesh_id, self.gossip, trust, clock)

    def _make_racing(self) -> Racing:
        def is_busy() -> bool:
            offers = self.offering.host.offers()
            return self.bending.session.here.in_flight > 0 or any(offer.in_flight for offer in offers)

        def is_member(node: NodeId) -> bool:
            entry = self.gossip.view.get(node)
            return entry is not None and entry.role is not Role.CLIENT

        belonging = self.standing.belonging
        around = RaceSurroundings(
            key=belonging.key,
            mesh_id=self.identity.mesh_id,
            transport=self.transport,
            folder=belonging.directory.transcripts,
            attestations=self.attestations,
            unix_time=self.standing.unix_time,
            devices=self.offering.memory.fact().devices,
            is_busy=is_busy,
            is_member=is_member,
        )
        return make_racing(self.offering.pantry.kitchen.config, around)

    def _make_bending(self) -> Bending:
        """A client asks no node for a blob, for none would answer; members may ask a client."""
        is_client = self.identity.role is Role.CLIENT
        blobs = FormBlobs(self.blobs, lambda: () if is_client else nearest_first(self.transport.links()))
        folder = self.standing.belonging.directory.blobs
        kitchen = self.offering.pantry.kitchen
        around = FormSurroundings(
            memory=self.offering.memory,
            transport=self.transport,
            view=lambda: self.gossip.view,
            folder=folder,
            blobs=blobs,
            foreign=self.offering.bend_workers,
            displace=kitchen.residence.make_room if kitchen.config.displace else None,
            believe=self.attestations.believed,
        )
        return make_bending(around)

    def _console(self, commands: Mapping[str, Command], api: ASGIApp) -> dict[str, Coroutine[Any, Any, None]]:
        listeners = self.listeners
        if listeners.console is None:
            return {}
        door = ConsoleDoor(listeners.console, listeners.ingress, listeners.is_local)
        waits = (self.offering.host.changed, self.offering.memory.changed, self.telemetry.activity.changes.wait)
        return door.works(self.situation, self.telemetry, commands, api, waits, self._bender())

    def _bender(self) -> Bender:
        return Bender(self.bending.operations, self.bending.session, self.identity.name)

    def _hosting_works(self, worker: SplitWorker) -> dict[str, Coroutine[Any, Any, None]]:
        if self.identity.role is Role.CLIENT:
            return {}
        host, gossip = self.offering.host, self.gossip
        return (
            {
                "models": host.run(partial(gossip.publish, MODELS_FACT)),
                "pantry": self.offering.pantry.run(),
                "bringer": self.bringer.run(self.offering.pantry.specs),
                "describe host": describe_host(gossip.publish, self.offering.memory),
                **self.racing.works(),
                "claim hosting": claim_hosting(gossip, self.leases.claims, host.offers, self.leases.keep_claim),
                "split work": work_for_others(worker, self.tunnels),
            }
            | {one.name: serve_upstream(one, host) for one in self.upstreams}
            | self._draft_works()
            | self.leases.works()
        )

    def _draft_works(self) -> dict[str, Coroutine[Any, Any, None]]:
        desk, drafter, gossip = self.offering.pantry.kitchen.desk, self.offering.drafter, self.gossip
        works = {"draft desk": desk.run(self.transport, lambda: gossip.view, self.attestations.believed)}
        return works | ({"drafter": drafter.run(gossip.publish)} if drafter is not None else {})

    async def _until_told(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = {group.create_task(stop.wait()), group.create_task(self._leaving.wait())}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _commands(self) -> Commands:
        def addresses() -> tuple[Address, ...]:
            return introducers(self.transport.addresses, self.gossip.view)

        return Commands(self.standing, self.situation, addresses, self._leave, self.telemetry.activity.as_json)

    def _pairing_commands(self) -> PairingCommands:
        return PairingCommands(self.desk, self._may_invite, self.standing.unix_time)

    def _may_invite(self) -> bool:
        return self.standing.belonging.signer(self.standing.unix_time()) is not None

    def _model_commands(self) -> ModelCommands:
        hosts = self.identity.role is not Role.CLIENT
        return ModelCommands(self.offering.pantry, self.bringer, self.situation, hosts, self.upstreams)

    def _clocks(self) -> Clocks:
        return Clocks(self.transport, lambda: self.gossip.view, self.standing.unix_time)

    def _plan_command(self) -> PlanCommand:
        reader = ModelReader(self.offering.pantry, self.bringer.finder, self.transport)
        return PlanCommand(self.situation, self.standing.belonging.directory, reader.read)

    async def _leave(self) -> None:
        self._leaving.set()

    def situation(self) -> Situation:
        """The mesh as it is now, for status, models and health."""
        return Situation(
            mesh_id=self.identity.mesh_id,
            mesh_name=self.identity.mesh_name,
            role=self.identity.role,
            view=self.gossip.view,
            links=self.transport.links(),
            offers=self.offering.host.offers(),
            doors=self._doors(),
            refusals=self.transport.refusals,
            gossip=self.gossip.all_counters,
            uptime_s=time.monotonic() - LOADED_AT,
            surroundings=self.neighbourhood.surroundings,
            leases=self.leases.now(),
            bringings=self.bringer.bringings,
            may_invite=self._may_invite(),
            proofs=self.attestations.now(),
            drafts=tuple(self.offering.pantry.kitchen.desk.accounts.values()),
            sessions=self.offering.pantry.kitchen.session_stats,
            memory=MemoryNow(self.offering.memory.fact().devices, self.offering.memory.reservations),
        )

    def _doors(self) -> dict[str, str]:
        return {
            "api": url_of(self.listeners.api),
            **({"console": url_of(self.listeners.console)} if self.listeners.console is not None else {}),
            "mesh": format_address(self.transport.addresses[0]),
            **(self.listeners.bend.addresses() if self.listeners.bend is not None else {}),
            "control": str(self.standing.belonging.directory.control_socket),
        }

    def _welcome(self) -> Welcome:
        token = self._commands().new_token(Role.MEMBER, DEFAULT_TTL_S, 1) if self.has_founded else None
        return Welcome(
            name=self.identity.name,
            role=self.identity.role,
            mesh_name=self.identity.mesh_name,
            doors=self._doors(),
            models=tuple(spec.name for spec in self.offering.pantry.specs),
            token=token,
            seconds=time.monotonic() - LOADED_AT,
        )
