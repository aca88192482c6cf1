"""This node's part in electing a host for every model that it serves.

Which nodes can serve a model is read from their offers; who should host is `gossip.lease`'s to decide.
Every node that has a model may answer for it; the elected one is the host that status names, and the one
that split serving will be led by.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from gossip.facts import read_gpu
from gossip.lease import Candidate, Claim, Election, Yield, encode_claims
from gossip.view import NodeView, View
from llm.offer import MeshModel, Offer, catalogue
from transport.interface import NodeId

logger = logging.getLogger("meshd.llm")

DRAIN_S = 30.0
"""How long a host that lost its claim may go on with what it has begun."""


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


@dataclass(frozen=True, slots=True)
class Won:
    """This node is to host `claim.resource`, in a new term. Make it known with `Claims.hold`, once it is on disk."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Lost:
    """This node hosts `claim.resource` no more: take no new requests, let those that run end for `DRAIN_S`, unload."""

    claim: Claim
    reason: str


Change = Won | Lost


class Claims:
    """The claims of this node, changed by what elections decide.

    known_term: the last term of a resource that this node's disk knows of, 0 for none.
    """

    def __init__(self, me: NodeId, known_term: Callable[[str], int]) -> None:
        self._me = me
        self._known_term = known_term
        self._election = Election()
        self._held: dict[str, Claim] = {}

    @property
    def fact(self) -> bytes:
        return encode_claims(self._held.values())

    def refused(self, resource: str, term: int) -> None:
        """A worker has served `term`: where this node still claims the resource, it is to claim a higher one."""
        self._election.refused(resource, term)

    def update(self, view: View, local: tuple[Offer, ...], now: float) -> list[Change]:
        """Take part in the election for every model offered here. What is lost is given up; what is won is not held."""
        mine = [model for model in catalogue(view, local) if self._is_offered_here(model)]
        offered = {resource_of(model.name) for model in mine}
        changes = [self._lose(resource, "it is not served here any more") for resource in self._held.keys() - offered]
        decided = [self._decide(model, view, now) for model in mine]
        return [change for change in [*changes, *decided] if change is not None]

    def hold(self, claim: Claim) -> None:
        """Claim what was won."""
        self._held[claim.resource] = claim
        logger.info("this node hosts %s (term %d)", claim.resource, claim.term)

    def _is_offered_here(self, model: MeshModel) -> bool:
        return any(hosting.node.node == self._me for hosting in model.hostings)

    def _decide(self, model: MeshModel, view: View, now: float) -> Change | None:
        resource = resource_of(model.name)
        self._election.recall(resource, self._known_term(resource))
        match self._election.decide(resource, candidates(model), view, now):
            case Claim() as claim:
                return Won(claim)
            case Yield(_, reason):
                return self._lose(resource, reason)
            case None:
                return None

    def _lose(self, resource: str, reason: str) -> Lost | None:
        claim = self._held.pop(resource, None)
        if claim is None:
            return None
        logger.info("this node no longer hosts %s (term %d): %s", resource, claim.term, reason)
        return Lost(claim, reason)
