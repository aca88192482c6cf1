"""A worker's decider: who gets a lease here, for how long, and whether one still counts.

At most one host has a lease on a resource. Another one gets it in a higher term only, which ends the first lease here
at once; but the second begins when the first host has let go, or must have stopped by its own clock. What is
promised stands on the fence, which is on disk before any promise: effects are performed in their order, and
`Remember` has to have succeeded before the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from gossip.fence import Fences
from gossip.lease import MAX_TERM_LEAP, Claim
from gossip.lease_message import (
    LEASE_S,
    LeaseGranted,
    LeaseKind,
    LeaseRefused,
    LeaseRelease,
    LeaseReleased,
    LeaseRequest,
    RefusalCode,
    Reply,
)
from transport.identity import short
from transport.interface import NodeId

MAX_LEASES = 128
MAX_LEASES_PER_HOST = 64


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as its worker keeps it. until: on the worker's clock.  is_revoked: counts no more, but is waited out."""

    lease: bytes
    resource: str
    purpose: LeaseKind
    host: NodeId
    boot: int
    term: int
    until: float
    memory_bytes: int
    is_revoked: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """`host`, in this start of it, asks. claim: who hosts the resource in this node's view (`standing_claim`)."""

    host: NodeId
    boot: int
    request: LeaseRequest
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class LetGo:
    """`host` has stopped using a lease."""

    host: NodeId
    release: LeaseRelease


@dataclass(frozen=True, slots=True)
class NotRemembered:
    """A `Remember` has failed: the grant that was to follow it, of this id, was not given."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """`next_deadline` has come, or anything may have."""


Event = Asked | LetGo | NotRemembered | Tick


@dataclass(frozen=True, slots=True)
class Remember:
    """Have the fences on disk as they are now. When that fails, perform nothing that follows; say NotRemembered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Say this to who asked."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Began:
    """Serve this lease from now on."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Ended:
    """Serve this lease no longer."""

    grant: Grant
    reason: str


Effect = Remember | Answer | Began | Ended

Room = Callable[[NodeId, LeaseRequest], LeaseRefused | None]
"""Whether there is room for a new lease to work: None, or a refusal with BUSY or NO_ROOM."""


def any_room(host: NodeId, request: LeaseRequest) -> LeaseRefused | None:
    """Where nothing is served under a lease but the lease."""
    return None


_Place = tuple[str, LeaseKind]


class Grants:
    """Every lease that this worker has given. fences: as they are on disk, which this changes from now on.

    now: of the start. Who held what before it is forgotten, so every resource with a fence rests for `LEASE_S`.
    """

    def __init__(self, fences: Fences, now: float, room: Room = any_room) -> None:
        self._fences = fences
        self._room = room
        self._held: dict[_Place, Grant] = {}
        self._resting = fences.resources
        self._rests_until = now + LEASE_S

    @property
    def next_deadline(self) -> float:
        """When `Tick` is due; infinite while no lease can run out."""
        return min((grant.until for grant in self._held.values()), default=float("inf"))

    def handle(self, now: float, event: Event) -> list[Effect]:
        """Take one event. now: monotonic seconds of this worker's own."""
        ended = self._run_out(now)
        match event:
            case Asked():
                return [*ended, *self._asked(now, event)]
            case LetGo(host, release):
                return [*ended, *self._let_go(host, release)]
            case NotRemembered(lease):
                return [*ended, *self._forget(lease)]
            case Tick():
                return ended

    def find(self, now: float, host: NodeId, boot: int, lease: bytes, term: int) -> Grant | None:
        """The lease of that id, when it counts now and is that host's, in that start of it and in that term."""
        for grant in self._held.values():
            if grant.lease == lease and (grant.host, grant.boot, grant.term) == (host, boot, term):
                return grant if now < grant.until and not grant.is_revoked else None
        return None

    def grants(self, now: float) -> tuple[Grant, ...]:
        """Every lease that counts now."""
        return tuple(grant for grant in self._held.values() if now < grant.until and not grant.is_revoked)

    def has_own_vote(self, now: float, resource: str) -> bool:
        """Whether nobody else may still be using this node's vote, so that it counts for this node's own claim."""
        if resource in self._resting and now < self._rests_until:
            return False
        held = self._held.get((resource, "vote"))
        return held is None or held.until <= now

    def _asked(self, now: float, asked: Asked) -> list[Effect]:
        request = asked.request
        held = self._held.get((request.resource, request.purpose))
        if not self._fences.get(request.resource).admits(request.term, asked.host):
            return [self._stale(asked)]
        if held is not None and held.lease == request.lease and _is_theirs(held, asked):
            return self._renew(now, held, request)
        if not request.is_new:
            return [_refused(RefusalCode.NOT_HELD, "this node has given no such lease, or it has run out")]
        if refusal := self._why_not(now, asked, held):
            return [refusal]
        if held is not None and held.host != asked.host:
            return self._supersede(now, asked, held)
        return self._grant(now, asked)

    def _why_not(self, now: float, asked: Asked, held: Grant | None) -> Answer | None:
        """What keeps a lease from an admissible claimant, whoever else has one."""
        request, claim = asked.request, asked.claim
        if claim is None or (claim.host, claim.term) != (asked.host, request.term) or self._is_leap(request):
            words = "this node's view does not show that claim, or another's above it"
            return _refused(RefusalCode.NOT_CLAIMED, words, term=self._known_term(asked))
        if held is not None and held.host == asked.host and held.boot > asked.boot:
            return _refused(RefusalCode.NOT_HELD, "a later start of the same host has this lease")
        if request.resource in self._resting and now < self._rests_until:
            return _refused(RefusalCode.BUSY, "this node has just started", retry_s=self._rests_until - now)
        return None

    def _is_leap(self, request: LeaseRequest) -> bool:
        return request.term > self._fences.get(request.resource).term + MAX_TERM_LEAP

    def _known_term(self, asked: Asked) -> int:
        fence = self._fences.get(asked.request.resource)
        return max(fence.term, asked.claim.term if asked.claim is not None else 0)

    def _stale(self, asked: Asked) -> Answer:
        fence, claim = self._fences.get(asked.request.resource), asked.claim
        words = f"this node has served term {fence.term} of this resource"
        if fence.term == asked.request.term:
            words += ", and another host in it"
        is_led = claim is not None and claim.host != asked.host and claim.term >= fence.term
        return Answer(LeaseRefused(RefusalCode.STALE_TERM, words, fence.term, is_led=is_led))

    def _renew(self, now: float, held: Grant, request: LeaseRequest) -> list[Effect]:
        """The same lease once more: also for a first request that comes again because its answer was lost."""
        self._held[held.resource, held.purpose] = replace(held, until=now + LEASE_S)
        # A first request may come again before the fence is on disk.
        return [Remember(), _granted()] if request.is_new else [_granted()]

    def _supersede(self, now: float, asked: Asked, held: Grant) -> list[Effect]:
        """End a lease for a higher term, which waits until its host has stopped for certain."""
        effects = self._raise_fence(asked)
        words = f"host {short(held.host)} may still use its lease of term {held.term}"
        return [*effects, _refused(RefusalCode.BUSY, words, retry_s=held.until - now)]

    def _grant(self, now: float, asked: Asked) -> list[Effect]:
        request = asked.request
        if refusal := self._no_room(asked):
            return [Answer(refusal)]
        effects = self._raise_fence(asked)
        place = (request.resource, request.purpose)
        if (former := self._held.pop(place, None)) is not None and not former.is_revoked:
            effects.insert(0, Ended(former, "its host asked anew"))
        grant = Grant(
            request.lease,
            request.resource,
            request.purpose,
            asked.host,
            asked.boot,
            request.term,
            now + LEASE_S,
            request.memory_bytes,
        )
        self._held[place] = grant
        return [*effects, Began(grant), _granted()]

    def _no_room(self, asked: Asked) -> LeaseRefused | None:
        request = asked.request
        others = [grant for place, grant in self._held.items() if place != (request.resource, request.purpose)]
        each = Counter(grant.host for grant in others)
        if len(others) >= MAX_LEASES or each[asked.host] >= MAX_LEASES_PER_HOST:
            return LeaseRefused(RefusalCode.NO_ROOM, f"this node has given {len(others)} leases already")
        return self._room(asked.host, request) if request.purpose == "work" else None

    def _raise_fence(self, asked: Asked) -> list[Effect]:
        """Let nobody else in up to this term, and end what others have."""
        request = asked.request
        in_use = {resource for resource, _ in self._held}
        self._fences.raise_to(request.resource, request.term, asked.host, in_use)
        ended: list[Effect] = []
        for place, grant in list(self._held.items()):
            if grant.resource == request.resource and grant.host != asked.host and not grant.is_revoked:
                self._held[place] = replace(grant, is_revoked=True)
                ended.append(Ended(grant, f"term {request.term} of host {short(asked.host)} came"))
        # Also where it stood there already: that may not have got to disk.
        return [*ended, Remember()]

    def _let_go(self, host: NodeId, release: LeaseRelease) -> list[Effect]:
        place = (release.resource, release.purpose)
        held = self._held.get(place)
        if held is None or (held.host, held.lease) != (host, release.lease):
            return [Answer(LeaseReleased())]
        del self._held[place]
        ended: list[Effect] = [] if held.is_revoked else [Ended(held, "its host let go")]
        return [*ended, Answer(LeaseReleased())]

    def _forget(self, lease: bytes) -> list[Effect]:
        """Take back what was never given."""
        self._held = {place: grant for place, grant in self._held.items() if grant.lease != lease}
        return []

    def _run_out(self, now: float) -> list[Effect]:
        over = [(place, grant) for place, grant in self._held.items() if now >= grant.until]
        for place, _ in over:
            del self._held[place]
        return [Ended(grant, "it was not renewed") for _, grant in over if not grant.is_revoked]


def _is_theirs(held: Grant, asked: Asked) -> bool:
    return (held.host, held.boot, held.term) == (asked.host, asked.boot, asked.request.term)


def _granted() -> Answer:
    return Answer(LeaseGranted(round(LEASE_S * 1000)))


def _refused(code: RefusalCode, words: str, *, term: int = 0, retry_s: float = 0.0) -> Answer:
    return Answer(LeaseRefused(code, words, term, max(0, round(retry_s * 1000))))
