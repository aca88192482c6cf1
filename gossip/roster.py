"""The state table: what each statement and each silence does to a member's standing.

| state       | event                                   | next                                            |
|-------------|-----------------------------------------|-------------------------------------------------|
| ALIVE       | accused in this (boot, incarnation)     | SUSPECT, the clock starts                       |
| SUSPECT     | another accuser                         | SUSPECT, the clock is shortened                 |
| SUSPECT     | its record with higher (boot, inc)      | ALIVE                                           |
| SUSPECT     | the clock runs out                      | DEAD                                            |
| SUSPECT     | DEAD is heard, half the shortest wait on | DEAD                                           |
| ALIVE       | DEAD is heard                           | SUSPECT for the shortest wait: it may refute    |
| unknown     | its record, and DEAD with it            | DEAD                                            |
| any         | its own signed LEFT                     | LEFT                                            |
| DEAD, LEFT  | its record with higher (boot, inc)      | ALIVE                                           |
| self        | accused in this (boot, incarnation)     | a new record, incarnation + 1                   |
| self        | own record from a later life is shown,  | boot above that one's (the boot file was lost)  |
|             | or own fact that it never said          |                                                 |

An accusation counts only where the accused's own signed record of that (boot, incarnation) is held. So
only a node itself can raise its numbers, and nobody can push it to the end of them. Whom to tell of a
change is the engine's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gossip.member import MemberRecord, Standing
from gossip.message import MAX_MEMBERS, Accusation
from gossip.suspicion import Suspicion
from gossip.timing import Timing
from gossip.view import Status
from transport.interface import NodeId, Role

HINT = "a failed request"
"""Voice in a suspicion: evidence of our own that came before the probe did."""


class Reseal(Protocol):
    """Signs this node's record anew."""

    def __call__(self, boot: int, incarnation: int, *, has_left: bool = False) -> MemberRecord: ...


class Verdict(Enum):
    """What became of a statement."""

    CHANGED = "changed"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    REBORN = "reborn"
    STALE = "stale"
    UNPROVEN = "unproven"
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Member:
    """One member as this node knows it, itself included.

    accuser: who says SUSPECT or DEAD.  since: when the status began.  known_since: when it came, or came back.
    was_linked: a connection with this boot of it has existed, so that losing it means something.
    """

    record: MemberRecord
    status: Status
    since: float
    known_since: float
    accuser: NodeId | None = None
    was_linked: bool = False

    @property
    def node(self) -> NodeId:
        return self.record.node

    @property
    def standing(self) -> Standing:
        return Standing(self.record.boot, self.record.incarnation, self.status)

    @property
    def is_probed(self) -> bool:
        """Whether it counts as present: alive until its suspicion has run out."""
        return self.status is Status.ALIVE or self.status is Status.SUSPECT


class Roster:
    """Every member ever heard of and not yet forgotten; clients are not members."""

    def __init__(self, boot: int, timing: Timing, reseal: Reseal, now: float) -> None:
        record = reseal(boot, 0)
        self._me = me = record.node
        # A client keeps no clocks of its own: it believes the member it asks.
        self._takes_word = record.role is Role.CLIENT
        self._timing = timing
        self._reseal = reseal
        self._members: dict[NodeId, Member] = {me: Member(record, Status.ALIVE, now, now)}
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._present = 1
        self.version = 0

    @property
    def own(self) -> Member:
        """This node's own entry."""
        return self._members[self._me]

    @property
    def present(self) -> int:
        """N: how many members, this one included, are not known to be gone."""
        return self._present

    def get(self, node: NodeId) -> Member | None:
        """The entry of `node`, or None."""
        return self._members.get(node)

    def entry(self, node: NodeId) -> Member:
        """The entry of a node known to be here."""
        return self._members[node]

    def members(self) -> list[Member]:
        """Every entry, in the order in which they were first heard of; this node first."""
        return list(self._members.values())

    @property
    def next_deadline(self) -> float | None:
        """When the first suspicion runs out."""
        if not self._suspicions:
            return None
        return min(one.deadline for one in self._suspicions.values())

    def suspicion(self, node: NodeId) -> Suspicion | None:
        """The clock running on `node`, if one does."""
        return self._suspicions.get(node)

    def wanting(self) -> list[NodeId]:
        """Suspects against whom this node has no voice yet, though one would shorten the wait."""
        return [node for node, one in self._suspicions.items() if one.wants(self._me)]

    def learn(self, record: MemberRecord, now: float) -> Verdict:
        """Take a member's own statement, already verified."""
        if record.node == self._me:
            return self._learn_of_self(record)
        held = self._members.get(record.node)
        if held is None:
            return self._enrol(record, now)
        if record.standing <= held.standing:
            return Verdict.STALE
        if record.boot > held.record.boot or not held.is_probed:
            held.known_since = now
        if record.boot > held.record.boot:
            held.was_linked = False
        held.record = record
        held.accuser = None
        self._move(held, record.standing.status, now)
        return Verdict.CHANGED

    def accuse(
        self, said: Accusation, now: float, *, hinted_at: float | None = None, is_believed: bool = False
    ) -> Verdict:
        """Take an accusation.

        hinted_at: when something that used the member failed, the first voice: the clock runs from then, but for
        no longer than a probe takes.  is_believed: whether a death is taken at its word.
        """
        subject, accuser = NodeId(said.subject), NodeId(said.accuser)
        if accuser == subject:
            return Verdict.REFUSED
        held = self._members.get(subject)
        if held is None or accuser not in self._members or (said.boot, said.incarnation) > held.standing[:2]:
            return Verdict.UNPROVEN
        if (said.boot, said.incarnation) < held.standing[:2] or held.status is Status.LEFT:
            return Verdict.STALE
        if subject == self._me:
            return self._refute()
        if said.dead and (is_believed or self._takes_word):
            return self._bury(held, accuser, now)
        if said.dead:
            return self._hear_of_death(held, accuser, now)
        return self._suspect(held, accuser, now, hinted_at)

    def expire(self, now: float) -> list[Member]:
        """Declare dead those whose suspicion has run out, in the order in which they were suspected."""
        if not self._suspicions:
            return []
        due = [node for node, one in self._suspicions.items() if one.deadline <= now]
        expired = [self._members[node] for node in due]
        for member in expired:
            self._bury(member, self._me, now)
        return expired

    def forget(self, now: float) -> list[Member]:
        """Drop members that have been dead or gone for a day."""
        gone = [
            member
            for member in self._members.values()
            if not member.is_probed and now - member.since >= self._timing.forget_s and member.node != self._me
        ]
        for member in gone:
            del self._members[member.node]
            self.version += 1
        return gone

    def expel(self, node: NodeId) -> None:
        """Drop a member that is none any more."""
        member = self._members.pop(node)
        self._present -= member.is_probed
        self._suspicions.pop(node, None)
        self.version += 1

    def extend_suspicions(self, gap_s: float) -> None:
        """This node stood still for `gap_s`: that time is nobody else's fault."""
        for suspicion in self._suspicions.values():
            suspicion.extend(gap_s)

    def leave(self) -> None:
        """Put this node's last word in place of its record."""
        own = self.own.record
        self.replace_own(self._reseal(own.boot, own.incarnation, has_left=True))

    def replace_own(self, record: MemberRecord) -> None:
        """Put a newly sealed record in place of this node's."""
        own = self.own
        own.record = record
        own.status = record.standing.status
        self.version += 1

    def begin_anew(self, boot: int) -> Verdict:
        """This node had a life before this one that went by `boot`: start above it."""
        self.replace_own(self._reseal(max(boot, self.own.record.boot) + 1, 0))
        return Verdict.REBORN

    def _enrol(self, record: MemberRecord, now: float) -> Verdict:
        if len(self._members) >= MAX_MEMBERS:
            return Verdict.REFUSED
        member = Member(record, Status.LEFT, now, now)
        self._members[record.node] = member
        self._move(member, record.standing.status, now)
        return Verdict.CHANGED

    def _learn_of_self(self, record: MemberRecord) -> Verdict:
        own = self.own.record
        if record.standing <= self.own.standing:
            return Verdict.STALE
        if record.boot == own.boot and not record.has_left:
            self.replace_own(self._reseal(own.boot, record.incarnation + 1))
            return Verdict.REFUTED
        return self.begin_anew(record.boot)

    def _refute(self) -> Verdict:
        own = self.own.record
        self.replace_own(self._reseal(own.boot, own.incarnation + 1))
        return Verdict.REFUTED

    def _hear_of_death(self, held: Member, accuser: NodeId, now: float) -> Verdict:
        """Somebody's clock has run out: one's own may stop, if it has run for long enough."""
        suspicion = self._suspicions.get(held.node)
        if suspicion is not None and suspicion.is_ripe(now):
            return self._bury(held, accuser, now)
        verdict = self._suspect(held, accuser, now, None)
        suspicion = self._suspicions.get(held.node)
        if suspicion is not None and suspicion.hasten() and verdict is Verdict.STALE:
            return Verdict.CONFIRMED
        return verdict

    def _suspect(self, held: Member, accuser: NodeId, now: float, hinted_at: float | None) -> Verdict:
        if held.status is Status.DEAD:
            return Verdict.STALE
        suspicion = self._suspicions.get(held.node)
        if suspicion is not None or held.status is Status.SUSPECT:
            fresh = suspicion is not None and suspicion.accuse(accuser)
            return Verdict.CONFIRMED if fresh else Verdict.STALE
        held.accuser = accuser
        self._move(held, Status.SUSPECT, now)
        if not self._takes_word:
            start = now if hinted_at is None else max(hinted_at, now - self._timing.probe_s)
            suspicion = self._suspicions[held.node] = Suspicion(start, self._present, self._timing.probe_s)
            if hinted_at is not None:
                suspicion.accuse(HINT)
            suspicion.accuse(accuser)
        return Verdict.CHANGED

    def _bury(self, held: Member, accuser: NodeId, now: float) -> Verdict:
        if held.status is Status.DEAD:
            return Verdict.STALE
        held.accuser = accuser
        self._move(held, Status.DEAD, now)
        return Verdict.CHANGED

    def _move(self, member: Member, status: Status, now: float) -> None:
        was_present = member.is_probed
        if status is not member.status:
            member.status = status
            member.since = now
        self._present += member.is_probed - was_present
        self._suspicions.pop(member.node, None)
        self.version += 1
