"""A host's decider: which leases it wants of which workers, when it asks, and until when it may use each.

A lease counts here for `USABLE_SHARE` of its time, from the moment this host *asked*, on its own clock: so it has
stopped before the worker's time is up, though the clocks run unevenly and answers take long. The id of a lease that
was let go, or lost, is never used again, whatever arrives later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gossip.lease_message import (
    RENEW_S,
    USABLE_SHARE,
    LeaseGranted,
    LeaseKind,
    LeaseRefused,
    LeaseRelease,
    LeaseReleased,
    LeaseRequest,
    RefusalCode,
    Reply,
)
from transport.identity import RandomBytes
from transport.interface import NodeId

ASK_S = 2.0
"""For one question: two may go unanswered before a lease runs out."""
RETRY_S = 0.5
NO_ROOM_RETRY_S = 3.0
LED_RETRY_S = 3.0
"""By then this host has mostly seen the claim that stands above its own, and asks no more."""

LEASE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Seat:
    """A place at a worker that this host wants a lease for."""

    resource: str
    purpose: LeaseKind
    worker: NodeId


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its host holds it. usable_until: on the host's clock."""

    seat: Seat
    lease: bytes
    term: int
    usable_until: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Want leases of exactly these workers, in this term. workers: with the memory, in bytes, meant to be used there.

    after_s: not sooner, for leases that were not wanted before (while a predecessor drains).
    """

    resource: str
    purpose: LeaseKind
    term: int
    workers: Mapping[NodeId, int]
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to question `number` has come."""

    number: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Failed:
    """Question `number` was not answered: unreachable, too slow, or not in the words of the protocol."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """`next_deadline` has come, or anything may have."""


Event = Hold | Answered | Failed | Tick


@dataclass(frozen=True, slots=True)
class Ask:
    """Put this question to a worker at once, for `ASK_S`; then say Answered or Failed with its number."""

    number: int
    worker: NodeId
    request: LeaseRequest


@dataclass(frozen=True, slots=True)
class LetGo:
    """Tell a worker, once and without waiting, that its lease is not used any more."""

    worker: NodeId
    release: LeaseRelease


@dataclass(frozen=True, slots=True)
class Gained:
    """This lease may be used from now on."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Lost:
    """This lease must not be used any more."""

    lease: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class Stale:
    """A worker has served `term` of this resource, and nobody leads in it: the claim has to be made anew, above it."""

    resource: str
    term: int


Effect = Ask | LetGo | Gained | Lost | Stale


@dataclass(slots=True, eq=False)
class _State:
    """What there is between this host and one seat. id: of the lease that is asked for, or held.

    pending: number of the question that waits for its answer, put at `asked_at`.  was_asked: for this id.
    """

    term: int
    memory_bytes: int
    ask_at: float
    id: bytes
    lease: Lease | None = None
    pending: int | None = None
    asked_at: float = 0.0
    was_asked: bool = False
    refusal: str = ""


class Tenure:
    """Every lease that this host has or wants."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._states: dict[Seat, _State] = {}
        self._pending: dict[int, Seat] = {}
        self._number = 0

    @property
    def next_deadline(self) -> float:
        """When `Tick` is due; infinite while nothing is wanted."""
        return min((_deadline(state) for state in self._states.values()), default=float("inf"))

    @property
    def wanted(self) -> frozenset[tuple[str, LeaseKind]]:
        """What any lease is held or wanted on."""
        return frozenset((seat.resource, seat.purpose) for seat in self._states)

    def handle(self, now: float, event: Event) -> list[Effect]:
        """Take one event. now: monotonic seconds of this host's own, that go on while it sleeps."""
        effects = self._run_out(now)
        match event:
            case Hold():
                effects += self._hold(now, event)
            case Answered(number, reply):
                effects += self._answered(now, number, reply)
            case Failed(number, reason):
                effects += self._failed(now, number, reason)
            case Tick():
                pass
        return effects + self._ask_all(now)

    def leases(self, now: float, resource: str, purpose: LeaseKind = "work") -> dict[NodeId, Lease]:
        """The leases on `resource` that may be used at this moment, by worker."""
        return {
            seat.worker: state.lease
            for seat, state in self._states.items()
            if (seat.resource, seat.purpose) == (resource, purpose)
            and state.lease is not None
            and now < state.lease.usable_until
        }

    def all_leases(self, now: float) -> tuple[Lease, ...]:
        """Every lease that may be used at this moment."""
        held = (state.lease for state in self._states.values())
        return tuple(lease for lease in held if lease is not None and now < lease.usable_until)

    def refusals(self, resource: str, purpose: LeaseKind = "work") -> Mapping[NodeId, str]:
        """Why the workers that have given no lease have not, in the words of their last answer."""
        return MappingProxyType(
            {
                seat.worker: state.refusal
                for seat, state in self._states.items()
                if (seat.resource, seat.purpose) == (resource, purpose) and state.lease is None and state.refusal
            }
        )

    def _hold(self, now: float, hold: Hold) -> list[Effect]:
        effects: list[Effect] = []
        for seat in [seat for seat in self._states if (seat.resource, seat.purpose) == (hold.resource, hold.purpose)]:
            if seat.worker not in hold.workers:
                effects += self._leave(seat, "it is not wanted any more")
            elif self._states[seat].term != hold.term:
                effects += self._leave(seat, f"this host claims term {hold.term} now")
        for worker, memory_bytes in hold.workers.items():
            seat = Seat(hold.resource, hold.purpose, worker)
            if seat not in self._states:
                self._states[seat] = _State(hold.term, memory_bytes, now + hold.after_s, self._new_id())
            self._states[seat].memory_bytes = memory_bytes
        return effects

    def _leave(self, seat: Seat, reason: str) -> list[Effect]:
        state = self._states.pop(seat)
        effects = self._drop(seat, state, reason)
        if not effects and state.was_asked:
            # The grant may be on its way, and would keep others out.
            effects = [LetGo(seat.worker, LeaseRelease(seat.resource, state.id, seat.purpose))]
        self._forget_question(state)
        return effects

    def _new_id(self) -> bytes:
        return self._random_bytes(LEASE_ID_BYTES)

    def _answered(self, now: float, number: int, reply: Reply) -> list[Effect]:
        seat = self._pending.get(number)
        if seat is None:
            return []  # a question that was given up: nothing that it brings may be used
        state = self._states[seat]
        self._forget_question(state)
        match reply:
            case LeaseGranted():
                return self._granted(now, seat, state, reply)
            case LeaseRefused():
                return self._refused(now, seat, state, reply)
            case LeaseReleased():
                return self._failure(now, state, "the answer was to another question")

    def _granted(self, now: float, seat: Seat, state: _State, granted: LeaseGranted) -> list[Effect]:
        usable_s = USABLE_SHARE * granted.lasts_ms / 1000
        usable_until = state.asked_at + usable_s
        if now >= usable_until:
            return self._failure(now, state, "the answer came too late")
        is_new = state.lease is None
        state.lease = Lease(seat, state.id, state.term, usable_until)
        state.ask_at = state.asked_at + min(RENEW_S, usable_s / 2)
        state.refusal = ""
        return [Gained(state.lease)] if is_new else []

    def _refused(self, now: float, seat: Seat, state: _State, refused: LeaseRefused) -> list[Effect]:
        state.refusal = f"{refused.code.value}: {refused.words}"
        match refused.code:
            case RefusalCode.STALE_TERM:
                lost = self._drop(seat, state, state.refusal)
                if refused.is_led:
                    # This host slept, and has not heard of its successor yet: no reason to step over it.
                    state.ask_at = now + LED_RETRY_S
                    return lost
                state.ask_at = float("inf")  # until there is a higher term to ask in
                return [*lost, Stale(seat.resource, refused.term)]
            case RefusalCode.NOT_HELD:
                state.ask_at = now + RETRY_S
                return self._drop(seat, state, state.refusal)
            case RefusalCode.NO_ROOM:
                state.ask_at = now + NO_ROOM_RETRY_S
            case RefusalCode.BUSY:
                # Sooner than it says: what it waits for may end early.
                state.ask_at = now + min(max(RETRY_S, refused.retry_ms / 1000), 2 * RETRY_S)
            case RefusalCode.NOT_CLAIMED:
                state.ask_at = now + RETRY_S
        return []

    def _failed(self, now: float, number: int, reason: str) -> list[Effect]:
        seat = self._pending.get(number)
        if seat is None:
            return []
        state = self._states[seat]
        self._forget_question(state)
        return self._failure(now, state, reason)

    def _failure(self, now: float, state: _State, reason: str) -> list[Effect]:
        state.refusal = reason
        state.ask_at = now + RETRY_S
        return []

    def _run_out(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for seat, state in self._states.items():
            if state.pending is not None and now >= state.asked_at + ASK_S:
                self._forget_question(state)
                self._failure(now, state, f"no answer within {ASK_S:.0f} s")
            if state.lease is not None and now >= state.lease.usable_until:
                effects += self._drop(seat, state, "it could not be renewed in time")
                self._forget_question(state)
                state.ask_at = min(state.ask_at, now)
        return effects

    def _drop(self, seat: Seat, state: _State, reason: str) -> list[Effect]:
        lease = state.lease
        if lease is None:
            return []
        state.lease, state.id, state.was_asked = None, self._new_id(), False
        return [Lost(lease, reason), LetGo(seat.worker, LeaseRelease(seat.resource, lease.lease, seat.purpose))]

    def _ask_all(self, now: float) -> list[Effect]:
        return [
            self._ask(now, seat, state)
            for seat, state in self._states.items()
            if state.pending is None and now >= state.ask_at
        ]

    def _ask(self, now: float, seat: Seat, state: _State) -> Ask:
        self._number += 1
        self._pending[self._number] = seat
        state.pending, state.asked_at, state.was_asked = self._number, now, True
        is_new = state.lease is None
        request = LeaseRequest(seat.resource, state.term, state.id, is_new, seat.purpose, state.memory_bytes)
        return Ask(self._number, seat.worker, request)

    def _forget_question(self, state: _State) -> None:
        if state.pending is not None:
            del self._pending[state.pending]
            state.pending = None


def _deadline(state: _State) -> float:
    ask_at = state.ask_at if state.pending is None else state.asked_at + ASK_S
    return min(ask_at, state.lease.usable_until) if state.lease is not None else ask_at
