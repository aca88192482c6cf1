"""All this node has been told: the roster, the facts, and the rumours that pass them on, kept in step.

Whatever comes from a peer is checked here and counted when it cannot be believed; a bad statement costs
that statement only, since the peer may merely have passed it on. A peer of very many is not heard for a while.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gossip.facts import Fact, FactStore, seal_fact
from gossip.member import LocalNode, MemberBody, OwnSeal, body_standing
from gossip.message import (
    Accusation,
    Delta,
    DeltaEntry,
    Digest,
    MemberRumour,
    OutlineEntry,
    decode_rumour,
    fits_datagram,
)
from gossip.naming import Naming
from gossip.patience import Patience
from gossip.reading import HeardFact, HeardRecord, Reading
from gossip.roster import Member, Roster, Verdict
from gossip.teller import Teller
from gossip.timing import Timing
from gossip.trust import Verifier
from gossip.view import Status
from transport import wire
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import Address, NodeId, Role

logger = logging.getLogger("meshd.gossip")

MAX_SEEN = 2048
"""Rumours remembered whole, so that their copies cost nothing: 2 MiB, since larger ones than a packet's are not."""

# In this long after its start a node does not pass on what it learns of third parties: they told it.
JOINING_S = 5.0


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the record of a delta entry said, and how its member stood before it came."""

    body: MemberBody
    before: Status | None


class Knowledge:
    """Takes statements in, checks them, merges them and queues them to be passed on.

    Since the engine last looked: changed: members whose entry did.  has_new_facts: whether anyone's facts did.
    wanted: peers that know something which this node must pull.  was_accused, was_reborn: this node had to answer.
    reading: as `Engine` has it.
    """

    def __init__(
        self, me: LocalNode, verifier: Verifier, timing: Timing, now: float, reading: Reading | None = None
    ) -> None:
        self._me = me
        self._own_seal = OwnSeal(me)
        self._verifier = verifier
        self._timing = timing
        self._started = self._now = now
        self._seen: dict[bytes, None] = {}
        self._reading = reading or Reading()
        self._patience = Patience()
        self.counters: Counter[str] = Counter()
        self._teller = Teller(self.counters, is_silent=me.role is Role.CLIENT)
        self.roster = Roster(me.boot, timing, self._own_seal, now)
        self.facts = FactStore()
        self.facts.begin(me.node, me.boot)
        self.rumours = self._teller.rumours
        self.changed: dict[NodeId, Member] = {}
        self.wanted: dict[NodeId, None] = {}
        self.naming = Naming(me.node, self.facts, self.rumours)
        self.has_new_facts = False
        self.was_accused = False
        self.was_reborn = False
        self._tell_member(self.roster.own)

    def hear_all(self, rumours: Iterable[bytes], peer: NodeId, now: float) -> None:
        """Take the rumours out of a packet from `peer`; most are copies of what is known."""
        for payload in rumours:
            if payload in self._seen:
                self.rumours.heard(payload)
            else:
                self.hear(payload, peer, now)

    def hear(self, payload: bytes, peer: NodeId, now: float) -> None:
        """Take a rumour not seen before."""
        self._now = now
        if not self._listens_to(peer):
            return
        try:
            is_settled = self._take(payload, peer, now)
        except ProtocolError as error:
            self._refuse(error, peer)
            return
        if is_settled and fits_datagram(payload):
            self._remember(payload)

    def apply(self, delta: Delta, peer: NodeId, now: float) -> int:
        """Take a page of anti-entropy: records first, since accusations and facts lean on them.

        How many members stand otherwise than before.
        """
        self._now = now
        version = self.roster.version
        known = [self._apply_record(entry, peer, now) for entry in delta.entries]
        for entry, record in zip(delta.entries, known, strict=True):
            if record is not None and entry.status in (Status.SUSPECT, Status.DEAD):
                self._apply_standing(entry, record, now)
        for entry in delta.entries:
            for payload in entry.facts:
                self._apply_fact(payload, NodeId(entry.node), peer)
        return self.roster.version - version

    def compare(self, digest: Digest, peer: NodeId) -> None:
        """See what `peer` knows of that this node has still to tell: enough of those, and it need not."""
        subjects = self.rumours.subjects()
        if not subjects:
            return
        for entry in digest.entries:
            member = self.roster.get(NodeId(entry.node)) if entry.node in subjects else None
            if member is None or entry.boot != member.record.boot:
                continue
            # Of a suspicion the outline does not say whose voices are known.
            if member.standing == (entry.boot, entry.incarnation, entry.status) and entry.status is not Status.SUSPECT:
                self.rumours.is_known_to(peer, member.node, is_fact=False)
            if entry.facts >= self.facts.complete(member.node):
                self.rumours.is_known_to(peer, member.node, is_fact=True)

    def outline(self, named: Iterable[NodeId]) -> list[bytes]:
        """How far the facts of these nodes are known here, as a packet says it."""
        return self.facts.outline(named)

    def hear_outline(self, outline: Iterable[bytes], peer: NodeId, now: float) -> tuple[list[NodeId], list[bytes]]:
        """As `Naming.compare`, of what `peer` names."""
        self._now = now
        return self.naming.compare(self._read_names(outline, peer), peer)

    def _read_names(self, outline: Iterable[bytes], peer: NodeId) -> Iterator[OutlineEntry]:
        """Those that this node would not write so itself, up to one that cannot be read."""
        for encoded in self.facts.differing(outline):
            try:
                entry = self._reading.entry(encoded, peer)
            except ProtocolError as error:
                self._refuse(error, peer)
                return
            yield entry

    @property
    def has_to_tell(self) -> bool:
        """Whether there is anything to say in the next round of gossip."""
        return bool(self.naming) or bool(self.rumours)

    def accuse(self, target: NodeId, now: float, *, hinted_at: float | None = None) -> bytes | None:
        """Accuse a silent member: the rumour, or None when it is not news. hinted_at: as in `Roster.accuse`."""
        self._now = now
        member = self.roster.get(target)
        if member is None:
            return None
        said = Accusation(target, member.record.boot, member.record.incarnation, False, self._me.node)
        verdict = self.roster.accuse(said, now, hinted_at=hinted_at)
        if verdict not in (Verdict.CHANGED, Verdict.CONFIRMED):
            return None
        payload = wire.encode(said)
        self._tell_accusation(member, said, payload, verdict)
        return payload

    def accusation_of(self, member: Member) -> bytes:
        """What stands against a suspect or dead member, to be told to its face."""
        record = member.record
        is_dead = member.status is Status.DEAD
        return wire.encode(
            Accusation(member.node, record.boot, record.incarnation, is_dead, member.accuser or self._me.node)
        )

    def expire(self, now: float) -> None:
        """Pass on who has died by our own clock."""
        self._now = now
        for member in self.roster.expire(now):
            record = member.record
            said = Accusation(member.node, record.boot, record.incarnation, True, self._me.node)
            self._tell_accusation(member, said, wire.encode(said), Verdict.CHANGED)

    def forget(self, now: float) -> None:
        """Let go of who died or left long ago."""
        for member in self.roster.forget(now):
            self._drop(member)

    def publish(self, key: str, value: bytes, *, is_quiet: bool = False) -> None:
        """Say something about this node, if it is news. is_quiet: only to those that compare notes.

        ValueError when it breaks a bound of `facts`.
        """
        if self.facts.shown(self._me.node).get(key, b"") == value:
            return
        fact = seal_fact(self.facts.next_header(self._me.node, key, value), value, self._me.signer, self._me.mesh_id)
        self.facts.put(fact)
        self.has_new_facts = True
        if not is_quiet:
            self._tell_fact(fact)

    def move(self, addresses: tuple[Address, ...]) -> None:
        """Publish this node's new addresses."""
        self._own_seal.move(addresses)
        own = self.roster.own.record
        self.roster.replace_own(self._own_seal(own.boot, own.incarnation + 1))
        self._tell_member(self.roster.own)

    def recertify(self, certificate: bytes, serial: bytes) -> None:
        """Show this node's newer certificate from now on."""
        self._own_seal.recertify(certificate, serial)
        own = self.roster.own.record
        self.roster.replace_own(self._own_seal(own.boot, own.incarnation + 1))
        self._tell_member(self.roster.own)

    def recheck(self) -> list[NodeId]:
        """Forget every other member that is revoked; who that was.

        One whose certificate has merely ended dies as others do, and comes back when it has another: a clock that
        jumped must not make this node forget its mesh.
        """
        others = [member for member in self.roster.members() if member.node != self._me.node]
        fallen = [member for member in others if self._verifier.is_revoked(_certificate(member))]
        for member in fallen:
            logger.info("%s (%s) has been revoked", member.record.name, short(member.node))
            self.roster.expel(member.node)
            self._drop(member)
        return [member.node for member in fallen]

    def is_certified(self, node: NodeId) -> bool:
        """Whether `node` is a member whose latest certificate counts now."""
        member = self.roster.get(node)
        return member is not None and self._verifier.certified(_certificate(member)) is not None

    def leave(self) -> bytes:
        """Say farewell: this node's last record."""
        self.roster.leave()
        self._tell_member(self.roster.own)
        return self.roster.own.record.encoded

    def _drop(self, member: Member) -> None:
        """Forget what a member said that is out of the roster."""
        self.facts.forget(member.node)
        self.naming.has_come(member.node)
        self._teller.forget(member.node)
        self.changed[member.node] = member

    def _take(self, payload: bytes, peer: NodeId, now: float) -> bool:
        """Whether the rumour is done with, so that its copies may be skipped."""
        match self._reading.statement(payload, peer):
            case HeardRecord() as heard:
                verdict = self._learn(heard, peer, now)
                if verdict is Verdict.CHANGED:
                    self._tell_member(self.roster.entry(NodeId(heard.body.node)))
                return verdict is not Verdict.REFUSED
            case Accusation() as said:
                return self._hear_accusation(said, payload, peer, now)
            case HeardFact() as heard:
                return self._hear_fact(heard, peer)

    def _learn(self, heard: HeardRecord, peer: NodeId, now: float) -> Verdict:
        node = NodeId(heard.body.node)
        held = self.roster.get(node)
        # Most copies are stale: checked before the signature, which costs a hundred times more.
        if held is not None and body_standing(heard.body) <= held.standing:
            return Verdict.STALE
        verdict = self.roster.learn(heard.open(self._verifier, self._me.mesh_id, peer), now)
        if verdict is Verdict.CHANGED:
            self._begin_facts(self.roster.entry(node))
            self.changed[node] = self.roster.entry(node)
        elif verdict in (Verdict.REFUTED, Verdict.REBORN):
            self._answer_for_self(verdict)
        elif verdict is Verdict.REFUSED:
            self.counters["too_many_members"] += 1
        return verdict

    def _hear_accusation(self, said: Accusation, payload: bytes, peer: NodeId, now: float) -> bool:
        if said.accuser == self._me.node:
            return True
        verdict = self.roster.accuse(said, now)
        if verdict is Verdict.UNPROVEN:
            self.wanted[peer] = None
            self.counters["unproven"] += 1
        elif verdict is Verdict.REFUSED:
            self.counters["self_accusation"] += 1
        elif verdict is Verdict.REFUTED:
            self._answer_for_self(verdict)
        elif verdict in (Verdict.CHANGED, Verdict.CONFIRMED):
            self._tell_accusation(self.roster.entry(NodeId(said.subject)), said, payload, verdict)
        return verdict is not Verdict.UNPROVEN

    def _hear_fact(self, heard: HeardFact, peer: NodeId) -> bool:
        header, node = heard.header, heard.node
        if node == self._me.node:
            self._hear_own_fact(heard, peer)
            return True
        if not self.facts.is_known_boot(header):
            self.wanted[peer] = None
            self.counters["unproven"] += 1
            return False
        if not self.facts.is_news(header):
            return True
        owner = self.roster.entry(node)
        if heard.rumour.value is None:
            # Checked before anything is pulled for it.
            self._open(heard, owner, peer)
            self.wanted[peer] = None
            return False
        self._tell_fact(self._keep_fact(heard, owner, peer))
        return True

    def _apply_record(self, entry: DeltaEntry, peer: NodeId, now: float) -> _Shown | None:
        """Take the record of one entry, if it has one; what it shows of its member."""
        if not entry.record or not self._listens_to(peer):
            return None
        held = self.roster.get(NodeId(entry.node))
        before = held.status if held is not None else None
        try:
            heard = self._reading.statement(entry.record, peer)
            if not isinstance(heard, HeardRecord):
                raise ProtocolError(f"node {short(peer)} sent something else in place of a member record")
            if heard.body.node != entry.node:
                raise ProtocolError(f"node {short(peer)} sent the record of another node than it said")
            verdict = self._learn(heard, peer, now)
        except ProtocolError as error:
            self._refuse(error, peer)
            return None
        if verdict is Verdict.CHANGED:
            member = self.roster.entry(NodeId(heard.body.node))
            if member.status is Status.LEFT and before is None:
                member.since = now - entry.age_s
            if entry.status in (Status.ALIVE, Status.LEFT) and not self._was_told(member.node, peer, now):
                self._tell_member(member)
        return _Shown(heard.body, before)

    def _apply_standing(self, entry: DeltaEntry, shown: _Shown, now: float) -> None:
        """Take what an entry says against its member.

        A death learnt this way about one held alive enters as a suspicion, so that it can still be refuted.
        """
        node = NodeId(shown.body.node)
        is_dead = entry.status is Status.DEAD and (shown.before is not Status.ALIVE or self._me.role is Role.CLIENT)
        said = Accusation(node, shown.body.boot, shown.body.incarnation, is_dead, entry.accuser)
        verdict = self.roster.accuse(said, now, is_believed=shown.before is None)
        if verdict is Verdict.REFUTED:
            self._answer_for_self(verdict)
        if verdict not in (Verdict.CHANGED, Verdict.CONFIRMED):
            return
        member = self.roster.entry(node)
        self.changed[node] = member
        # Who was here until now has not been dead for long, whatever a peer says: it would be forgotten at once,
        # and an old record of it could then begin its numbers anew.
        if is_dead and shown.before is None:
            member.since = now - entry.age_s
        if not (is_dead and entry.age_s > self._timing.gossip_to_dead_s):
            self._tell_accusation(member, said, wire.encode(said), verdict)

    def _apply_fact(self, payload: bytes, node: NodeId, peer: NodeId) -> None:
        if not self._listens_to(peer):
            return
        try:
            heard = self._reading.statement(payload, peer)
            if not isinstance(heard, HeardFact) or heard.rumour.value is None:
                raise ProtocolError(f"node {short(peer)} sent something else in place of a fact")
            owner = self.roster.get(heard.node)
            if owner is not None and owner.node == self._me.node:
                self._hear_own_fact(heard, peer)
            if owner is None or owner.node == self._me.node or not self.facts.is_news(heard.header):
                return
            fact = self._keep_fact(heard, owner, peer)
        except ProtocolError as error:
            self._refuse(error, peer)
            return
        # A newcomer's facts reach us before anyone else hears them; others' have been told already.
        if node == peer:
            self._tell_fact(fact)

    def _hear_own_fact(self, heard: HeardFact, peer: NodeId) -> None:
        """One that this node did not say in this life was said in one before, and the disk was lost in between.

        Others would keep it for ever: what is said in this life has lower numbers. Raises ProtocolError.
        """
        own, header = self.roster.own, heard.header
        if (header.boot, header.version) > (own.record.boot, self.facts.complete(own.node)):
            self._open(heard, own, peer)
            self._answer_for_self(self.roster.begin_anew(header.boot))

    def _keep_fact(self, heard: HeardFact, owner: Member, peer: NodeId) -> Fact:
        """Store news of another member that comes with its value. Raises ProtocolError."""
        fact = self._open(heard, owner, peer)
        if not self.facts.put(fact):
            raise ProtocolError(f"node {short(owner.node)} publishes more facts than a node may")
        self.has_new_facts = True
        return fact

    def _open(self, heard: HeardFact, owner: Member, peer: NodeId) -> Fact:
        return heard.open(owner.record.public, self._verifier, self._me.mesh_id, peer)

    def _was_told(self, subject: NodeId, peer: NodeId, now: float) -> bool:
        """Whether everyone but this newcomer knows already what `peer` told of a third party."""
        return now - self._started < JOINING_S and subject != peer

    def _answer_for_self(self, verdict: Verdict) -> None:
        """This node had to raise its numbers; in a new boot its facts are signed anew."""
        own = self.roster.own
        if verdict is Verdict.REBORN:
            self.was_reborn = True
            published = dict(self.facts.shown(self._me.node))
            self.facts.begin(self._me.node, own.record.boot)
            for key, value in published.items():
                self.publish(key, value)
        else:
            self.was_accused = True
        self._tell_member(own)

    def _begin_facts(self, member: Member) -> None:
        if self.facts.begin(member.node, member.record.boot):
            self.rumours.retract_facts(member.node)

    def _tell_member(self, member: Member) -> None:
        self.changed[member.node] = member
        self._teller.tell_record(member.record, self._now)

    def _tell_accusation(self, member: Member, said: Accusation, payload: bytes, verdict: Verdict) -> None:
        self.changed[member.node] = member
        if verdict is Verdict.CHANGED:
            self.rumours.retract(member.node)
        self._teller.tell_accusation(member.node, NodeId(said.accuser), payload, self._now)

    def _tell_fact(self, fact: Fact) -> None:
        if self.naming.has_come(fact.node):
            # Whoever named it had been told, and so have most: they need no more than the name.
            self.rumours.name(fact.node)
        else:
            self._teller.tell_fact(fact, self._now)

    def _remember(self, payload: bytes) -> None:
        if len(self._seen) >= MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[payload] = None

    def _listens_to(self, peer: NodeId) -> bool:
        """Whether statements of `peer` are worth checking now; one that is not is counted."""
        if self._patience.listens_to(peer, self._now):
            return True
        self.counters["unheard"] += 1
        return False

    def _refuse(self, error: ProtocolError, peer: NodeId) -> None:
        self.counters["refused"] += 1
        logger.debug("refused: %s", error)
        if not self._patience.refused(peer, self._now):
            logger.warning("not listening to %s for a while: too much that it says is not to be believed", short(peer))


def _certificate(member: Member) -> bytes:
    """The membership certificate in a member's record."""
    rumour = decode_rumour(member.record.encoded, member.node)
    assert isinstance(rumour, MemberRumour), "only those are made into records"
    return rumour.certificate
