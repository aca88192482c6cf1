"""This node's part in electing a host for every model that it serves.

Which nodes can serve a model is read from their offers; who should host is `gossip.lease`'s to decide.
Every node that has a model may answer for it; the elected one is the host that status names, and the one
that split serving will be led by.
"""

from __future__ import annotations

import logging

from gossip.facts import read_gpu
from gossip.lease import Candidate, Claim, Election, Yield, encode_claims
from gossip.view import NodeView, View
from llm.offer import MeshModel, Offer, catalogue
from transport.interface import NodeId

logger = logging.getLogger("meshd.llm")


def resource_of(model_name: str) -> str:
    """The resource that a model's host claims."""
    return f"host/{model_name}"


def usable_bytes(node: NodeView) -> int:
    """Memory that `node` has for hosting, in all; 0 when it has not said, or not legibly."""
    fact = read_gpu(node)
    return sum(device.total_bytes for device in fact.devices) if fact else 0


def candidates(model: MeshModel) -> list[Candidate]:
    """The nodes that offer `model`; eligible are those whose engine is ready, or would lead a split."""
    return [
        Candidate(hosting.node.node, usable_bytes(hosting.node), _is_eligible(hosting.offer))
        for hosting in model.hostings
    ]


def _is_eligible(offer: Offer) -> bool:
    # Who leads a split is elected before there is an engine: it takes the leases that go with the claim.
    return offer.state == "ready" or (offer.mode == "split" and offer.state in ("waiting", "loading"))


class Claims:
    """The claims of this node, changed by what elections decide."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._election = Election()
        self._held: dict[str, Claim] = {}

    @property
    def fact(self) -> bytes:
        return encode_claims(self._held.values())

    def update(self, view: View, local: tuple[Offer, ...], now: float) -> bool:
        """Take part in the election for every model offered here; whether any claim changed."""
        before = dict(self._held)
        mine = [model for model in catalogue(view, local) if self._is_offered_here(model)]
        offered = {resource_of(model.name) for model in mine}
        self._held = {resource: claim for resource, claim in self._held.items() if resource in offered}
        for model in mine:
            self._decide(model, view, now)
        return self._held != before

    def _is_offered_here(self, model: MeshModel) -> bool:
        return any(hosting.node.node == self._me for hosting in model.hostings)

    def _decide(self, model: MeshModel, view: View, now: float) -> None:
        resource = resource_of(model.name)
        match self._election.decide(resource, candidates(model), view, now):
            case Claim() as claim:
                self._held[resource] = claim
                logger.info("this node hosts %s (term %d)", model.name, claim.term)
            case Yield(_, reason):
                if self._held.pop(resource, None) is not None:
                    logger.info("this node no longer hosts %s: %s", model.name, reason)
            case None:
                pass
