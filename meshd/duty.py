"""What each node actually does in the mesh now, whatever it was started as, and why each host leads. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from gossip.lease import CHALLENGE_FACTOR, CHALLENGE_S, Claim, capacity
from gossip.view import NodeView, Status, View
from llm.offer import MeshModel
from transport.interface import NodeId, Role

GIB = 1 << 30


class Duty(StrEnum):
    """HOST: a model of its own answers, or it leads a split one.  WORKER: it holds a share of another's.  CLIENT: it
    asks only.  IDLE: it could, and does not.
    """

    HOST = "host"
    WORKER = "worker"
    CLIENT = "client"
    IDLE = "idle"


def duties(view: View, models: Sequence[MeshModel], hosts: Mapping[str, Claim]) -> dict[NodeId, Duty]:
    """What every node of the view does."""
    leading = {hosting.node.node for model in models for hosting in model.hostings if hosting.offer.state == "ready"}
    leading |= {claim.host for claim in hosts.values()}
    working = {
        NodeId(part.node)
        for model in models
        for hosting in model.hostings
        if hosting.offer.state == "ready"
        for part in hosting.offer.parts
    }
    return {node.node: _duty(node, leading, working) for node in view.nodes}


def _duty(node: NodeView, leading: set[NodeId], working: set[NodeId]) -> Duty:
    if node.role is Role.CLIENT:
        return Duty.CLIENT
    if node.status > Status.SUSPECT:
        return Duty.IDLE
    if node.node in leading:
        return Duty.HOST
    return Duty.WORKER if node.node in working else Duty.IDLE


def reason(claim: Claim, rivals: Sequence[tuple[str, int]], host: str) -> str:
    """Why `host` leads, as a sentence. rivals: others that offer the same, by name, with the bytes of their memory."""
    what = claim.resource.partition("/")[2] or claim.resource
    return f"{host} leads {what} in term {claim.term} with {claim.score / GIB:.1f} GB: {_why(claim.score, rivals)}"


def _why(score: int, rivals: Sequence[tuple[str, int]]) -> str:
    if not rivals:
        return "no other node offers it"
    name, size = max(rivals, key=lambda rival: rival[1])
    if capacity(size) < capacity(score):
        return f"more than {name}, the next, with {size / GIB:.1f} GB"
    if capacity(size) == capacity(score):
        return f"as much as {name}, and the first of equals stays"
    if capacity(size) < CHALLENGE_FACTOR * capacity(score):
        return f"{name} has {size / GIB:.1f} GB, too little more to unseat it"
    return f"{name} has {size / GIB:.1f} GB and takes over when it has been well for {CHALLENGE_S:.0f} s"
