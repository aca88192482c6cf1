"""A node that belongs to a mesh: its services, in the order of their start, running until it is told to stop.

What each service brings is said in `meshd.services`, and how all of them start and stop in `meshd.services.service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from meshd.attestations import Attestations
from meshd.banner import welcome_lines
from meshd.bender import Bender
from meshd.bending import Bending
from meshd.dispatch import Dispatch
from meshd.footing import Footing
from meshd.leases import Leases
from meshd.metrics.telemetry import Telemetry, make_telemetry
from meshd.racing import Racing
from meshd.services.doors import api_door, console, control_door, make_api
from meshd.services.forms import computing, lending, make_blobs, make_forms
from meshd.services.membership import clocks, gossiping, membership, neighbourhood
from meshd.services.models import Supply, asking_for_models, drafting, hosting, make_leases, make_supply, splitting
from meshd.services.proofs import attesting, make_attestations, make_races, racing
from meshd.services.service import Service, merged, run_services
from meshd.services.telling import make_commands, situation_of, telling, welcome_of
from meshd.status import Situation
from meshd.tunnels import Tunnels, make_tunnels
from transport.blobs import Blobs


class Node:
    """Everything that runs, and the parts that more than one service has to do with."""

    footing: Footing
    attestations: Attestations
    tunnels: Tunnels
    leases: Leases
    supply: Supply
    blobs: Blobs
    bending: Bending
    racing: Racing
    telemetry: Telemetry
    services: tuple[Service, ...]

    def __init__(self, footing: Footing) -> None:
        self.footing = footing
        self.attestations = make_attestations(footing)
        self.tunnels = make_tunnels(footing.transport)
        self.leases = make_leases(footing)
        self.supply = make_supply(footing)
        self.blobs = make_blobs(footing)
        self.bending = make_forms(footing, self.blobs, self.attestations.believed)
        self.racing = make_races(footing, self.attestations, self.bending)
        self.telemetry = make_telemetry(self.situation, footing.offering.host.waiting)
        self.telemetry.forms.attach(self.bending.session.here, footing.identity.name)
        self._bender = Bender(self.bending.operations, self.bending.session, footing.identity.name)
        self._leaving = asyncio.Event()
        self._commands = make_commands(footing, self.situation, self._leave, self.telemetry)
        self.services = self._make_services()

    def situation(self) -> Situation:
        """The mesh as it is now, for status, models and health."""
        return situation_of(self.footing, self.supply.bringer, self.leases, self.attestations)

    async def run(self, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        """Run until `stop` is set or a person says `meshd leave`."""

        def welcome() -> None:
            for line in welcome_lines(welcome_of(self.footing, self._commands)):
                say(line)

        await run_services(self.services, lambda: self._until_told(stop), welcome)
        if self._leaving.is_set():
            self.footing.standing.belonging.forget()

    def _make_services(self) -> tuple[Service, ...]:
        """The doors begin after what answers behind them and end before it, by which nobody comes in too early."""
        inner = self._inner_services()
        return (*inner, self._peers_door(inner), *self._local_doors(inner), neighbourhood(self.footing))

    def _inner_services(self) -> list[Service]:
        footing, believe = self.footing, self.attestations.believed
        return [
            gossiping(footing),
            membership(footing),
            clocks(footing),
            telling(footing, self.telemetry, self._commands),
            attesting(self.attestations),
            lending(self.blobs, self.bending),
            computing(footing, self.bending, self._bender),
            racing(footing, self.racing),
            splitting(footing, self.leases, self.tunnels, believe),
            drafting(footing, believe),
            hosting(footing, self.supply, self.leases),
            asking_for_models(footing, self.supply, self.situation),
        ]

    def _peers_door(self, inner: Sequence[Service]) -> Service:
        dispatch = Dispatch(merged(service.streams for service in inner))
        return Service("dispatch", lambda: {"dispatch": dispatch.run(self.footing.transport)})

    def _local_doors(self, inner: Sequence[Service]) -> list[Service]:
        footing, telemetry, situation = self.footing, self.telemetry, self.situation
        api = make_api(footing, self.supply.bringer, telemetry, situation, self.attestations.believed)
        return [
            api_door(footing, api),
            control_door(footing, inner),
            console(footing, inner, api, telemetry, situation, self._bender),
        ]

    async def _until_told(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = {group.create_task(stop.wait()), group.create_task(self._leaving.wait())}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _leave(self) -> None:
        self._leaving.set()
