"""What a node tells of itself: its situation, from which status and metrics are made, and its welcome at the start."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from meshd.attestations import Attestations
from meshd.banner import Welcome
from meshd.bringer import Bringer
from meshd.commands import DEFAULT_TTL_S, Commands
from meshd.footing import Footing
from meshd.introducers import introducers
from meshd.leases import Leases
from meshd.loaded import LOADED_AT
from meshd.memory_status import MemoryNow
from meshd.metrics.telemetry import Telemetry
from meshd.services.service import Service
from meshd.status import Situation
from transport.interface import Address, Role


def situation_of(footing: Footing, bringer: Bringer, leases: Leases, attestations: Attestations) -> Situation:
    """The mesh as it is now, for status, models and health."""
    offering, kitchen = footing.offering, footing.offering.pantry.kitchen
    return Situation(
        mesh_id=footing.identity.mesh_id,
        mesh_name=footing.identity.mesh_name,
        role=footing.identity.role,
        view=footing.gossip.view,
        links=footing.transport.links(),
        offers=offering.host.offers(),
        doors=footing.doors(),
        refusals=footing.transport.refusals,
        gossip=footing.gossip.all_counters,
        uptime_s=time.monotonic() - LOADED_AT,
        surroundings=footing.neighbourhood.surroundings,
        leases=leases.now(),
        bringings=bringer.bringings,
        may_invite=footing.may_invite(),
        proofs=attestations.now(),
        drafts=tuple(kitchen.desk.accounts.values()),
        local_drafts=offering.host.drafting(),
        sessions=kitchen.session_stats,
        memory=MemoryNow(offering.memory.fact().devices, offering.memory.reservations),
    )


def make_commands(
    footing: Footing,
    situation: Callable[[], Situation],
    leave: Callable[[], Awaitable[None]],
    telemetry: Telemetry,
) -> Commands:
    """Status, tokens and leaving."""

    def addresses() -> tuple[Address, ...]:
        return introducers(footing.transport.addresses, footing.view())

    return Commands(footing.standing, situation, addresses, leave, telemetry.activity.as_json)


def telling(footing: Footing, telemetry: Telemetry, commands: Commands) -> Service:
    """Counting what happens, and what people ask of the node as a whole."""
    return Service("telemetry", lambda: {"telemetry": telemetry.follow(footing.gossip)}, commands=commands.table())


def welcome_of(footing: Footing, commands: Commands) -> Welcome:
    """What the person who started it reads; a founder gets a token for the next host with it."""
    identity = footing.identity
    token = commands.new_token(Role.MEMBER, DEFAULT_TTL_S, 1) if footing.has_founded else None
    return Welcome(
        name=identity.name,
        role=identity.role,
        mesh_name=identity.mesh_name,
        doors=footing.doors(),
        models=tuple(spec.name for spec in footing.offering.pantry.specs),
        token=token,
        seconds=time.monotonic() - LOADED_AT,
    )
