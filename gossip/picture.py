"""Draws the view: what this node knows and which links it has, as the layers above read it."""

from __future__ import annotations

from collections.abc import Mapping

from gossip.facts import FactStore
from gossip.roster import Member, Roster
from gossip.view import NodeView, Status, View
from transport.interface import NodeId, Peer, Role

Links = Mapping[NodeId, Peer]
RoundTrips = Mapping[NodeId, float]


def draw(version: int, roster: Roster, facts: FactStore, links: Links, round_trips_ms: RoundTrips, now: float) -> View:
    """The mesh now, this node first. Clients show where they are linked, and only there."""
    own = roster.own
    nodes = [
        _member(member, facts, links, round_trips_ms, now) for member in roster.members() if member.node != own.node
    ]
    nodes.extend(_client(peer, round_trips_ms) for peer in links.values() if peer.role is Role.CLIENT)
    nodes.sort(key=_by_node)
    return View(version, (_member(own, facts, links, round_trips_ms, now), *nodes))


def _member(member: Member, facts: FactStore, links: Links, round_trips_ms: RoundTrips, now: float) -> NodeView:
    record = member.record
    is_linked = record.node in links
    return NodeView(
        node=record.node,
        name=record.name,
        role=record.role,
        status=member.status,
        boot=record.boot,
        incarnation=record.incarnation,
        addresses=record.addresses,
        facts=facts.shown(record.node),
        rtt_ms=round_trips_ms.get(record.node) if is_linked else None,
        linked=is_linked,
        known_for_s=now - member.known_since,
    )


def _client(peer: Peer, round_trips_ms: RoundTrips) -> NodeView:
    return NodeView(
        node=peer.node,
        name=peer.name,
        role=peer.role,
        status=Status.ALIVE,
        boot=peer.boot,
        incarnation=0,
        addresses=(),
        facts={},
        rtt_ms=round_trips_ms.get(peer.node),
        linked=True,
        known_for_s=0.0,
    )


def _by_node(entry: NodeView) -> NodeId:
    return entry.node
