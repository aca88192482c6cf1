"""What `meshd status` says, built from a view and the links. Pure; its shape is stable (docs/architecture.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import meshd
from gossip.grant import Grant
from gossip.lease import Claim, claims
from gossip.quorum import Quorum
from gossip.tenure import Lease
from gossip.view import NodeView, Status, View
from llm.claims import resource_of
from llm.draft.tally import Account
from llm.engines.interface import Drafting
from llm.offer import Hosting, MeshModel, Offer, catalogue
from llm.sessions.stats import SessionStats
from meshd.bringing import Bringing
from meshd.draft_status import draft_row, drafter_rows, local_rows
from meshd.duty import Duty, duties, reason
from meshd.form_status import form_rows
from meshd.memory_status import GIB, UNKNOWN_MEMORY, MemoryNow, devices_of, memory_rows, peer_memory_rows, vram_row
from meshd.poc_status import NO_PROOFS, Proofs, proof_row, proof_totals
from meshd.session_status import session_rows
from transport.address import format_address
from transport.advertisement import OtherMesh
from transport.identity import node_text, short
from transport.interface import Link, NodeId, Role

ANSWERING = ("ready", "unloaded")
"""States of a model that answers; an unloaded one after its load."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The local network as mDNS shows it. problem: why it is not listened to, or why that does not work now."""

    is_listening: bool
    problem: str
    other_meshes: tuple[OtherMesh, ...] = ()


@dataclass(frozen=True, slots=True)
class LeasesNow:
    """Leases that count now. held, granted: with the seconds that they last unless renewed.

    quorums: of this node's claims that need one.  problem: why this node grants nothing; empty when it does.
    """

    held: Mapping[Lease, float]
    granted: Mapping[Grant, float]
    quorums: Mapping[str, Quorum]
    problem: str = ""


NO_LEASES = LeasesNow({}, {}, {})


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a status is made of. doors: name → address as a person types it.  refusals: by code.

    gossip: what gossip refused or could not judge, by kind.  bringings: models on their way to this node's disk.
    may_invite: whether this node may let others in.  drafts: how drafting on other hosts goes for this one's models.
    local_drafts: how it goes on this host, by model.
    sessions: what those of this node's models take, by model.
    """

    mesh_id: bytes
    mesh_name: str
    role: Role
    view: View
    links: Sequence[Link]
    offers: tuple[Offer, ...]
    doors: Mapping[str, str]
    refusals: Mapping[str, int]
    gossip: Mapping[str, int]
    uptime_s: float
    surroundings: Surroundings
    leases: LeasesNow = NO_LEASES
    bringings: tuple[Bringing, ...] = ()
    memory: MemoryNow = UNKNOWN_MEMORY
    may_invite: bool = False
    proofs: Proofs = NO_PROOFS
    drafts: tuple[Account, ...] = ()
    local_drafts: Mapping[str, Drafting] = field(default_factory=dict)
    sessions: Mapping[str, SessionStats] = field(default_factory=dict)


def build_status(now: Situation) -> dict[str, Any]:
    """The object that `meshd status --json` prints. VRAM totals leave clients out."""
    me = now.view.me
    models = catalogue(now.view, now.offers)
    terms = claims(now.view)
    doing = duties(now.view, models, terms)
    return {
        "node": _node(now, doing[me.node].value),
        "mesh": {"id": now.mesh_id.hex(), "name": now.mesh_name},
        "host": any(claim.host == me.node for claim in terms.values()),
        "peers": [
            _peer(node, now.links, doing[node.node]) | {"poc": proof_row(node.node, now.proofs, now.view)}
            for node in now.view.nodes[1:]
        ],
        "vram_total_gb": round(sum(vram_row(node)["total_gb"] for node in _members(now.view)), 2),
        "models": [_model(model, terms, now.view) for model in models] + _coming(now, models),
        "downloads": [one.as_json() for one in now.bringings if not one.is_settled],
        "forms": form_rows(now.view),
        "links": [_link(link) for link in now.links],
        "waiting": [waiting for model in models if (waiting := _waiting(model, terms))],
        "doors": dict(now.doors),
        "refusals": dict(now.refusals),
        "gossip": dict(now.gossip),
        "mdns": _mdns(now.surroundings),
        "claims": [_claim(terms[resource], models, now.view) for resource in sorted(terms)],
        "leases": _leases(now.leases, now.view),
        "memory": memory_rows(now.memory),
        "sessions": session_rows(now.sessions),
        "drafting": {
            "models": [draft_row(one) for one in now.drafts],
            "here": local_rows(now.local_drafts),
            "drafters": drafter_rows(now.view),
        },
        "poc": proof_totals(now.proofs),
    }


def _node(now: Situation, duty: str) -> dict[str, Any]:
    me = now.view.me
    return {
        "id": node_text(me.node),
        "name": me.name,
        "role": now.role.value,
        "duty": duty,
        "may_invite": now.may_invite,
        "version": meshd.__version__,
        "uptime_s": round(now.uptime_s, 1),
        "poc": proof_row(me.node, now.proofs, now.view),
    }


def _mdns(around: Surroundings) -> dict[str, Any]:
    return {
        "state": "off" if not around.is_listening else "failing" if around.problem else "on",
        "problem": around.problem,
        "other_meshes": [list(map(format_address, mesh.addresses)) for mesh in around.other_meshes],
    }


def _claim(claim: Claim, models: Sequence[MeshModel], view: View) -> dict[str, Any]:
    host = _name(claim.host, view)
    rivals = [
        (hosting.node.name, _memory_bytes(hosting.node))
        for model in models
        if resource_of(model.name) == claim.resource
        for hosting in model.hostings
        if hosting.node.node != claim.host
    ]
    return {
        "resource": claim.resource,
        "term": claim.term,
        "host": host,
        "score_gb": round(claim.score / GIB, 2),
        "reason": reason(claim, rivals, host),
    }


def _memory_bytes(node: NodeView) -> int:
    return sum(device.total_bytes for device in devices_of(node))


def _leases(now: LeasesNow, view: View) -> dict[str, Any]:
    """held: of workers.  granted: to hosts.  quorum: of this node's claims that need one."""
    held = [
        {
            "resource": lease.seat.resource,
            "purpose": lease.seat.purpose,
            "term": lease.term,
            "worker": _name(lease.seat.worker, view),
            "usable_s": round(seconds, 1),
        }
        for lease, seconds in now.held.items()
    ]
    granted = [
        {
            "resource": grant.resource,
            "purpose": grant.purpose,
            "term": grant.term,
            "host": _name(grant.host, view),
            "lasts_s": round(seconds, 1),
        }
        for grant, seconds in now.granted.items()
    ]
    quorums = [
        {"resource": resource, "granted": one.granted, "needed": one.needed, "members": one.members}
        for resource, one in now.quorums.items()
    ]
    return {"held": held, "granted": granted, "quorum": quorums, "problem": now.problem}


def _name(node: NodeId, view: View) -> str:
    entry = view.get(node)
    return entry.name if entry is not None else short(node)


def _members(view: View) -> list[NodeView]:
    return [node for node in view.nodes if node.role is not Role.CLIENT and node.status <= Status.SUSPECT]


def _peer(node: NodeView, links: Sequence[Link], duty: Duty) -> dict[str, Any]:
    link = next((link for link in links if link.node == node.node), None)
    return {
        "id": node_text(node.node),
        "name": node.name,
        "role": node.role.value,
        "duty": duty.value,
        "state": node.status.name.lower(),
        "rtt_ms": node.rtt_ms,
        "carrier": link.carrier if link else None,
        "vram": vram_row(node),
        "memory": peer_memory_rows(node),
    }


def _best(model: MeshModel, claim: Claim | None) -> Hosting:
    """The hosting that says most of the model: one that answers, else that of the elected host."""

    def rank(hosting: Hosting) -> tuple[bool, bool, NodeId]:
        node = hosting.node.node
        return hosting.offer.state != "ready", claim is None or node != claim.host, node

    return min(model.hostings, key=rank)


def _workers(offer: Offer, view: View) -> list[dict[str, Any]]:
    """Who holds which share of a split model, its host first."""
    nodes = [(view.get(NodeId(part.node)), part) for part in offer.parts]
    return [
        {"name": node.name if node else short(NodeId(part.node)), "share": round(part.share, 2)} for node, part in nodes
    ]


def _waiting(model: MeshModel, terms: Mapping[str, Claim]) -> dict[str, Any] | None:
    offer = _best(model, terms.get(resource_of(model.name))).offer
    if offer.state != "waiting" or not offer.missing_bytes:
        return None
    # Rounded up: with as much as it says, it starts.
    missing_gb = math.ceil(offer.missing_bytes / GIB * 1000) / 1000
    return {"model": model.name, "missing_gb": missing_gb, "reason": offer.reason}


def _model(model: MeshModel, terms: Mapping[str, Claim], view: View) -> dict[str, Any]:
    claim = terms.get(resource_of(model.name))
    best = _best(model, claim)
    host = next((hosting.node.name for hosting in model.hostings if claim and hosting.node.node == claim.host), None)
    return {
        "name": model.name,
        "digest": best.offer.digest or best.offer.fingerprint,
        "mode": best.offer.mode,
        "host": host or best.node.name,
        "term": claim.term if claim else 0,
        "workers": _workers(best.offer, view),
        "hosts": [hosting.node.name for hosting in model.hostings],
        "in_flight": sum(hosting.offer.in_flight for hosting in model.hostings),
        "state": best.offer.state,
        "reason": best.offer.reason,
    }


def _coming(now: Situation, models: Sequence[MeshModel]) -> list[dict[str, Any]]:
    """Models that this node is bringing here, or cannot bring, and that no other node has either."""
    known = {model.name for model in models}
    coming = [one for one in now.bringings if not one.is_settled and (one.name or one.wanted) not in known]
    return [
        {
            "name": one.name or one.wanted,
            "digest": "",
            "mode": "solo",
            "host": now.view.me.name,
            "term": 0,
            "workers": [],
            "hosts": [now.view.me.name],
            "in_flight": 0,
            "state": "failed" if one.is_over else "loading",
            "reason": one.words,
        }
        for one in coming
    ]


def _link(link: Link) -> dict[str, Any]:
    return {
        "node": short(link.node),
        "name": link.name,
        "state": link.state.value,
        "carrier": link.carrier,
        "address": format_address(link.address) if link.address else None,
        "rtt_ms": link.rtt_ms,
        "bytes_sent": link.bytes_sent,
        "bytes_received": link.bytes_received,
    }


def build_models(now: Situation) -> dict[str, Any]:
    """What `GET /v1/models` answers: OpenAI's list, with `meshd` details on each model."""
    return {"object": "list", "data": [_openai_model(model) for model in catalogue(now.view, now.offers)]}


def _openai_model(model: MeshModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "meshd",
        "meshd": {
            "hosts": [
                {"node": hosting.node.name, "state": hosting.offer.state, "in_flight": hosting.offer.in_flight}
                for hosting in model.hostings
            ],
            "mode": model.hostings[0].offer.mode,
            "context": max(hosting.offer.context_tokens for hosting in model.hostings),
            "digest": model.identity,
        },
    }


def build_health(now: Situation) -> tuple[bool, dict[str, Any]]:
    """Whether at least one model answers, and the body that says so."""
    models = catalogue(now.view, now.offers)
    ready = [model.name for model in models if any(hosting.offer.state in ANSWERING for hosting in model.hostings)]
    if ready:
        return True, {"status": "ok", "models": ready}
    waiting = {model.name: model.hostings[0].offer.reason or model.hostings[0].offer.state for model in models}
    why = "no model answers yet" if models else "no node serves any model: start one with `meshd --model PATH.gguf`"
    return False, {"status": "unavailable", "reason": why, "models": waiting}
