"""A node that belongs to a mesh: gossip, models and doors running side by side until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.member import LocalNode
from gossip.runner import PROTOCOL as GOSSIP_PROTOCOL
from gossip.runner import GossipRunner
from gossip.timing import LAN
from gossip.trust import CertificateVerifier
from llm.chat import CHAT_PROTOCOL
from llm.client import Router
from llm.digest import DigestCache
from llm.host import Host
from llm.hosting import claim_hosting
from llm.offer import MODELS_FACT
from meshd.api import Api, ApiKeys
from meshd.banner import Welcome, welcome_lines
from meshd.belonging import Belonging
from meshd.commands import DEFAULT_TTL_S, Commands
from meshd.control import control_app
from meshd.datadir import DataDir
from meshd.describe import describe_host
from meshd.dispatch import Dispatch
from meshd.engines import identify_models
from meshd.hardware import Limits
from meshd.http_server import serve_http
from meshd.loaded import LOADED_AT
from meshd.model_specs import ModelSpec
from meshd.neighbourhood import Neighbourhood
from meshd.status import Situation, build_health, build_models
from transport.address import format_address
from transport.certificate import MemberCertificate, Membership
from transport.interface import Address, Role, Transport

logger = logging.getLogger("meshd.node")

LEAVE_DEADLINE_S = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is in its mesh, this time."""

    name: str
    boot: int
    membership: Membership
    certificate: MemberCertificate

    @property
    def role(self) -> Role:
        return self.certificate.role


@dataclass(frozen=True, slots=True)
class Offering:
    """What this node serves and how much of its memory it gives."""

    specs: tuple[ModelSpec, ...]
    host: Host
    limits: Limits


@dataclass(frozen=True, slots=True)
class Listeners:
    """Sockets that are bound already, so that a taken port is known before anything starts."""

    api: socket.socket
    control: socket.socket
    keys: ApiKeys


def make_gossip(identity: Identity, belonging: Belonging, transport: Transport, directory: DataDir) -> GossipRunner:
    """The gossip of a node that belongs to a mesh."""
    membership = identity.membership
    me = LocalNode.of(identity.certificate, belonging.key, identity.name, identity.boot, transport.addresses)
    verifier = CertificateVerifier(membership.root_public, membership.mesh_id, time.time)
    engine = Engine(me, verifier, LAN, random.Random(), time.monotonic())
    book = AddressBook(directory.addresses, time.time)
    return GossipRunner(transport, engine, book, on_raise_boot=directory.keep_boot)


@dataclass(slots=True)
class Node:
    """Everything that runs. has_founded: this start made the mesh."""

    identity: Identity
    belonging: Belonging
    transport: Transport
    gossip: GossipRunner
    offering: Offering
    listeners: Listeners
    neighbourhood: Neighbourhood
    has_founded: bool
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        """Run until `stop` is set or a person says `meshd leave`."""
        async with asyncio.TaskGroup() as group:
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
            for task in reversed(tasks):
                task.cancel()
        if self._leaving.is_set():
            self.belonging.forget()

    def _works(self, accepting: list[asyncio.Event]) -> dict[str, Coroutine[Any, Any, None]]:
        router = Router(self.offering.host, self.transport, self.gossip, self.gossip.hint)
        situation = self.situation
        api: ASGIApp = Api(
            router, self.listeners.keys, lambda: build_models(situation()), lambda: build_health(situation())
        )
        control = control_app(self._commands().table())
        dispatch = Dispatch({GOSSIP_PROTOCOL: self.gossip.serve, CHAT_PROTOCOL: self.offering.host.serve})
        works: dict[str, Coroutine[Any, Any, None]] = {
            "gossip": self.gossip.run(),
            "dispatch": dispatch.run(self.transport),
            "api": serve_http(api, self.listeners.api, accepting[0]),
            "control": serve_http(control, self.listeners.control, accepting[1]),
        }
        return works | self._hosting_works()

    def _hosting_works(self) -> dict[str, Coroutine[Any, Any, None]]:
        if self.identity.role is Role.CLIENT:
            return {}
        host, gossip = self.offering.host, self.gossip
        cache = DigestCache(self.belonging.directory.root / "digests.json")
        return {
            "models": host.run(partial(gossip.publish, MODELS_FACT)),
            "identify models": identify_models(self.offering.specs, host, cache),
            "describe host": describe_host(gossip.publish, self.offering.limits),
            "claim hosting": claim_hosting(gossip, host.offers),
        }

    async def _until_told(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = {group.create_task(stop.wait()), group.create_task(self._leaving.wait())}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _commands(self) -> Commands:
        return Commands(self.belonging, self.situation, lambda: self.transport.addresses, self._leave)

    async def _leave(self) -> None:
        self._leaving.set()

    def situation(self) -> Situation:
        """The mesh as it is now, for status, models and health."""
        membership = self.identity.membership
        return Situation(
            mesh_id=membership.mesh_id,
            mesh_name=membership.mesh_name,
            role=self.identity.role,
            view=self.gossip.view,
            links=self.transport.links(),
            offers=self.offering.host.offers(),
            doors=self._doors(),
            refusals=self.transport.refusals,
            uptime_s=time.monotonic() - LOADED_AT,
            surroundings=self.neighbourhood.surroundings,
        )

    def _doors(self) -> dict[str, str]:
        host, port = self.listeners.api.getsockname()[:2]
        return {
            "api": f"http://{format_address(Address(host, port))}",
            "mesh": format_address(self.transport.addresses[0]),
            "control": str(self.belonging.directory.control_socket),
        }

    def _welcome(self) -> Welcome:
        token = self._commands().new_token(Role.MEMBER, DEFAULT_TTL_S, 1) if self.has_founded else None
        return Welcome(
            name=self.identity.name,
            role=self.identity.role,
            mesh_name=self.identity.membership.mesh_name,
            doors=self._doors(),
            models=tuple(spec.name for spec in self.offering.specs),
            token=token,
            seconds=time.monotonic() - LOADED_AT,
        )
