"""Who hosts what: a claim with a term, no vote.

A mesh of two cannot keep a majority, and a host that answers matters more than a unique one. So: every
node makes the same deterministic choice, the incumbent is not unseated lightly, and of conflicting claims
the highest (term, score, id) wins everywhere. A claim is a fact of its host, under the key `claims`.
Whether a node can host (the model fits, its engine is well) is the candidate's `is_eligible`: that is
llm's knowledge. What workers grant a claimed host, and how they refuse an old term, is in `grant` and `tenure`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import msgspec

from gossip.view import NodeView, Status, View
from transport.errors import ProtocolError
from transport.interface import NodeId, Role
from transport.wire import Counter, decode, encode

logger = logging.getLogger("meshd.gossip")

CLAIMS = "claims"
MAX_CLAIMS = 64
_MAX_BYTES = 64 * 1024

GIB = 1 << 30
CHALLENGE_FACTOR = 1.25
CHALLENGE_S = 60.0
UNHEALTHY_S = 30.0
SETTLED_S = 10.0
# Whoever has a refused term is mostly the successor of a host that slept, and gossip says so in a moment.
STEP_UP_S = 5.0
# Where nobody has hosted yet there is nothing to disturb: long enough to hear of the others at the start.
FIRST_SETTLED_S = 1.0

# A member that lies could name the last term there is, after which nobody could step up. No honest mesh leaps so far.
MAX_TERM_LEAP = 1 << 20

Resource = Annotated[str, msgspec.Meta(min_length=1, max_length=160)]
Term = Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]


class ClaimEntry(msgspec.Struct, frozen=True, array_like=True):
    """One claim as its host publishes it. score: bytes of usable memory, capacity rather than free."""

    resource: Resource
    term: Term
    score: Counter


class ClaimsFact(msgspec.Struct, frozen=True):
    """The fact `claims`."""

    claims: Annotated[tuple[ClaimEntry, ...], msgspec.Meta(max_length=MAX_CLAIMS)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could host. score: bytes of memory it can use for hosting, in all (not what is free)."""

    node: NodeId
    score: int
    is_eligible: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """`host` says that it hosts `resource`, in this term."""

    resource: str
    term: int
    score: int
    host: NodeId

    @property
    def rank(self) -> tuple[int, int, NodeId]:
        """Of two claims the higher rank stands."""
        return (self.term, self.score, self.host)


@dataclass(frozen=True, slots=True)
class Yield:
    """Stop admitting, drain, let go."""

    resource: str
    reason: str


Decision = Claim | Yield | None
"""Publish this claim; withdraw one's own; or leave things as they are."""


def encode_claims(claims: Iterable[Claim]) -> bytes:
    """The `claims` fact of a host with these claims."""
    return encode(ClaimsFact(tuple(ClaimEntry(one.resource, one.term, one.score) for one in claims)))


def all_claims(view: View) -> list[Claim]:
    """Every claim of every member in `view`, whatever its state; malformed facts count as none."""
    return [
        Claim(entry.resource, entry.term, entry.score, node.node)
        for node in view.nodes
        if node.role is not Role.CLIENT and CLAIMS in node.facts
        for entry in _read(node.facts[CLAIMS], node.node)
    ]


def claims(view: View) -> dict[str, Claim]:
    """Who hosts each resource now: the highest claim among hosts that are not dead or gone."""
    present = _present(view)
    standing: dict[str, Claim] = {}
    for claim in all_claims(view):
        held = standing.get(claim.resource)
        if claim.host in present and (held is None or claim.rank > held.rank):
            standing[claim.resource] = claim
    return standing


def standing_claim(view: View, resource: str, known_term: int) -> Claim | None:
    """Who hosts `resource` now, as believed by a node that knows of terms up to `known_term`."""
    return _standing(_said(view, resource, known_term), view)


def _said(view: View, resource: str, known_term: int) -> list[Claim]:
    """Every claim of `resource` whose term is no absurd leap."""
    highest = known_term + MAX_TERM_LEAP
    return [claim for claim in all_claims(view) if claim.resource == resource and claim.term <= highest]


def _standing(said: Iterable[Claim], view: View) -> Claim | None:
    present = _present(view)
    return max((claim for claim in said if claim.host in present), key=lambda claim: claim.rank, default=None)


def _present(view: View) -> set[NodeId]:
    return {node.node for node in view.nodes if node.status in (Status.ALIVE, Status.SUSPECT)}


def capacity(score: int) -> int:
    """A score as elections see it: whole GiB, so that small differences unseat nobody."""
    return score // GIB


def preference(resource: str, candidate: Candidate) -> tuple[int, bytes]:
    """What the best candidate has most of: capacity, then a hash that spreads resources over equals."""
    return (capacity(candidate.score), hashlib.sha256(resource.encode() + candidate.node).digest())


@dataclass(slots=True)
class _Watch:
    """What one resource's incumbent has been up to. Times are None while there is nothing to time.

    has_heard: of any claim, in this run of this node.  taken_term: some worker refused it, and all below.
    """

    host: NodeId | None = None
    unhealthy_since: float | None = None
    challenged_since: float | None = None
    refused_since: float | None = None
    has_heard: bool = False
    highest_term: int = 0
    taken_term: int = 0

    def follow(self, host: NodeId | None) -> None:
        if host != self.host:
            self.host = host
            self.unhealthy_since = self.challenged_since = None


class Election:
    """This node's part in choosing hosts; one for all resources. Ask it every second or on every new view."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}

    def recall(self, resource: str, term: int) -> None:
        """Count `term` as seen: this node's disk remembers it."""
        watch = self._watches.setdefault(resource, _Watch())
        watch.highest_term = max(watch.highest_term, term)

    def refused(self, resource: str, term: int) -> None:
        """A worker answered STALE_TERM: a claim of this node has to exceed `term`, unless that is an absurd leap."""
        watch = self._watches.setdefault(resource, _Watch())
        if term <= watch.highest_term + MAX_TERM_LEAP:
            watch.highest_term = max(watch.highest_term, term)
            watch.taken_term = max(watch.taken_term, term)

    def decide(self, resource: str, candidates: Iterable[Candidate], view: View, now: float) -> Decision:
        """What this node should do about `resource`.

        candidates: every node that offers it, this one included if it does.  now: monotonic seconds.
        """
        offers = {candidate.node: candidate for candidate in candidates}
        watch = self._watches.setdefault(resource, _Watch())
        said = _said(view, resource, watch.highest_term)
        watch.has_heard = watch.has_heard or bool(said)
        watch.highest_term = max([watch.highest_term, *(claim.term for claim in said)])
        incumbent = _standing(said, view)
        watch.follow(incumbent.host if incumbent is not None else None)

        me = view.me.node
        if incumbent is not None and incumbent.host != me and any(claim.host == me for claim in said):
            return Yield(resource, "another node's claim stands above this one's")
        is_refused = incumbent is not None and incumbent.host == me and incumbent.term <= watch.taken_term
        watch.refused_since = _start(watch.refused_since, now) if is_refused else None
        if incumbent is not None and is_refused and _is_over(watch.refused_since, STEP_UP_S, now):
            return Claim(resource, watch.highest_term + 1, incumbent.score, me)
        best = _best(resource, offers, view, SETTLED_S if watch.has_heard else FIRST_SETTLED_S)
        if incumbent is not None and not self._is_unseated(watch, offers.get(incumbent.host), best, now):
            return None
        if best is not None and best.node == me:
            return Claim(resource, watch.highest_term + 1, best.score, me)
        if incumbent is not None and incumbent.host == me and _is_over(watch.unhealthy_since, UNHEALTHY_S, now):
            return Yield(resource, f"its engine here has been unwell for {UNHEALTHY_S:.0f} s")
        return None

    def _is_unseated(self, watch: _Watch, offer: Candidate | None, best: Candidate | None, now: float) -> bool:
        """Whether a present incumbent has lost its seat: unwell for long, or outdone for long."""
        is_well = offer is not None and offer.is_eligible
        watch.unhealthy_since = None if is_well else _start(watch.unhealthy_since, now)
        is_challenged = offer is not None and best is not None and _outdoes(best, offer)
        watch.challenged_since = _start(watch.challenged_since, now) if is_challenged else None
        return _is_over(watch.unhealthy_since, UNHEALTHY_S, now) or _is_over(watch.challenged_since, CHALLENGE_S, now)


def _best(resource: str, offers: Mapping[NodeId, Candidate], view: View, settled_s: float) -> Candidate | None:
    able = [offers[node.node] for node in view.nodes if node.node in offers and _may_stand(node, settled_s)]
    able = [candidate for candidate in able if candidate.is_eligible]
    return max(able, key=lambda candidate: preference(resource, candidate), default=None)


def _may_stand(node: NodeView, settled_s: float) -> bool:
    return node.is_usable and node.known_for_s >= settled_s


def _outdoes(challenger: Candidate, incumbent: Candidate) -> bool:
    more = capacity(challenger.score)
    return more > capacity(incumbent.score) and more >= CHALLENGE_FACTOR * capacity(incumbent.score)


def _start(since: float | None, now: float) -> float:
    return now if since is None else since


def _is_over(since: float | None, span_s: float, now: float) -> bool:
    return since is not None and now - since >= span_s


@lru_cache(maxsize=256)
def _read(fact: bytes, node: NodeId) -> tuple[ClaimEntry, ...]:
    # Cached: a view is read often, and claims seldom change. So is the warning.
    try:
        return decode(fact, ClaimsFact, peer=node, max_bytes=_MAX_BYTES).claims
    except ProtocolError as error:
        logger.warning("ignoring malformed claims: %s", error)
        return ()
