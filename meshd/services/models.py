"""Models: those that are here, on their way or behind an upstream, who hosts which, and the split ones among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gossip.belief import Believe
from gossip.lease_message import PROTOCOL as LEASE_PROTOCOL
from llm.chat import CHAT_PROTOCOL
from llm.draft.message import PROTOCOL as DRAFT_PROTOCOL
from llm.engines.booking import SharedMemory
from llm.engines.upstream import Upstream
from llm.hosting import claim_hosting
from llm.models.fetch import Fetcher
from llm.models.message import PROTOCOL as FILES_PROTOCOL
from llm.offer import MODELS_FACT
from llm.split.message import PROTOCOL as SPLIT_PROTOCOL
from llm.upstream_models import serve_upstream
from meshd.bringer import Bringer
from meshd.describe import describe_host
from meshd.footing import Footing
from meshd.leases import Leases
from meshd.model_commands import ModelCommands
from meshd.model_finder import ModelFinder
from meshd.model_reader import ModelReader
from meshd.planning import PlanCommand
from meshd.services.service import Service, Works
from meshd.split import MeshParts, work_for_others
from meshd.status import Situation
from meshd.tunnels import PROTOCOL as TUNNEL_PROTOCOL
from meshd.tunnels import Tunnels

LEAVE_DEADLINE_S = 1.0


@dataclass(frozen=True, slots=True)
class Supply:
    """Where models come from besides this disk. upstreams: servers whose models this node offers."""

    bringer: Bringer
    upstreams: tuple[Upstream, ...]


def make_supply(footing: Footing) -> Supply:
    """Nothing is on its way yet, and no upstream was asked."""
    offering, pantry = footing.offering, footing.offering.pantry
    finder = ModelFinder(footing.transport, footing.gossip, pantry.digests)
    bringer = Bringer(pantry, finder, Fetcher(footing.transport, pantry.folder))
    shared = SharedMemory(pantry.kitchen.residence, offering.memory.take_over, offering.memory.look_again)
    return Supply(bringer, tuple(Upstream(one, shared) for one in offering.upstreams))


def make_leases(footing: Footing) -> Leases:
    """Claims and leases, with the terms that this node's disk knows of."""
    fences, offering = footing.directory.root / "fences", footing.offering
    return Leases(fences, footing.transport, footing.view, offering.splitting.room, offering.quorum)


def hosting(footing: Footing, supply: Supply, leases: Leases) -> Service:
    """Answering with this host's models, and having more of them. A client has none."""
    host, gossip, pantry = footing.offering.host, footing.gossip, footing.offering.pantry

    def works() -> Works:
        if footing.is_client:
            return {}
        return {
            "models": host.run(partial(gossip.publish, MODELS_FACT)),
            "pantry": pantry.run(),
            "bringer": supply.bringer.run(pantry.specs),
            "describe host": describe_host(gossip.publish, footing.offering.memory),
            "claim hosting": claim_hosting(gossip, leases.claims, host.offers, leases.keep_claim),
        } | {f"upstream {one.name}": serve_upstream(one, host) for one in supply.upstreams}

    return Service("hosting", works=works, streams={CHAT_PROTOCOL: host.serve, FILES_PROTOCOL: pantry.lending.serve})


def asking_for_models(footing: Footing, supply: Supply, situation: Callable[[], Situation]) -> Service:
    """What people ask about models: which there are, to have others, what would be the best way to serve one."""
    pantry = footing.offering.pantry
    reader = ModelReader(pantry, supply.bringer.finder, footing.transport)
    models = ModelCommands(pantry, supply.bringer, situation, not footing.is_client, supply.upstreams)
    plan = PlanCommand(situation, footing.directory, reader.read)
    return Service("questions about models", commands=models.table() | plan.table())


def splitting(footing: Footing, leases: Leases, tunnels: Tunnels, believe: Believe) -> Service:
    """Computing one model on several hosts, under leases, through tunnels."""
    offering, transport = footing.offering, footing.transport
    parts = MeshParts(footing.gossip, transport, tunnels, offering.host, leases, believe)
    worker = offering.splitting.attach(parts)

    def works() -> Works:
        return {} if footing.is_client else {"split work": work_for_others(worker, tunnels)} | leases.works()

    streams = {
        TUNNEL_PROTOCOL: tunnels.server.serve,
        LEASE_PROTOCOL: leases.service.serve,
        SPLIT_PROTOCOL: worker.serve,
    }
    return Service("splitting", works=works, streams=streams, farewell=partial(leases.keeper.leave, LEAVE_DEADLINE_S))


def drafting(footing: Footing, believe: Believe) -> Service:
    """Sessions of this host that ask others for drafts, and this host's drafter, where it has one."""
    desk, drafter = footing.offering.pantry.kitchen.desk, footing.offering.drafter

    def works() -> Works:
        if footing.is_client:
            return {}
        works = {"draft desk": desk.run(footing.transport, footing.view, believe)}
        return works | ({"drafter": drafter.run(footing.gossip.publish)} if drafter is not None else {})

    return Service("drafting", works=works, streams={DRAFT_PROTOCOL: drafter.serve} if drafter is not None else {})
