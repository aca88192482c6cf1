"""Proof of compute: what this node found of others' proofs, and the races that it calls and takes part in."""

from __future__ import annotations

from meshd.attest.race_message import PROTOCOL as POC_PROTOCOL
from meshd.attest.worth import Trust
from meshd.attestations import Attestations
from meshd.bending import Bending
from meshd.footing import Footing
from meshd.racing import CLIENT_COMMANDS, RaceSurroundings, Racing, make_racing
from meshd.services.service import Service
from transport.interface import NodeId, Role


def make_attestations(footing: Footing) -> Attestations:
    """What is believed of others' proofs, as `--trust` says."""
    standing, trust = footing.standing, Trust(footing.config.trust)
    return Attestations(standing.belonging.key, footing.identity.mesh_id, footing.gossip, trust, standing.unix_time)


def make_races(footing: Footing, attestations: Attestations, bending: Bending) -> Racing:
    """This node's part in races, which wait while it works for somebody."""

    def is_busy() -> bool:
        offers = footing.offering.host.offers()
        return bending.session.here.in_flight > 0 or any(offer.in_flight for offer in offers)

    def is_member(node: NodeId) -> bool:
        entry = footing.view().get(node)
        return entry is not None and entry.role is not Role.CLIENT

    around = RaceSurroundings(
        key=footing.standing.belonging.key,
        mesh_id=footing.identity.mesh_id,
        transport=footing.transport,
        folder=footing.directory.transcripts,
        attestations=attestations,
        unix_time=footing.standing.unix_time,
        devices=footing.offering.memory.fact().devices,
        is_busy=is_busy,
        is_member=is_member,
    )
    return make_racing(footing.config, around)


def attesting(attestations: Attestations) -> Service:
    """Telling and hearing attestations; a client does so too, for it places calls by them."""
    return Service("attestations", works=lambda: {"attestations": attestations.run()})


def racing(footing: Footing, races: Racing) -> Service:
    """Races. A client takes part in none."""
    if footing.is_client:
        return Service("races", commands=CLIENT_COMMANDS)
    return Service("races", works=races.works, streams={POC_PROTOCOL: races.races.serve}, commands=races.table())
