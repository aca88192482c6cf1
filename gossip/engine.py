"""SWIM with Lifeguard and Scuttlebutt as one pure machine: events and the time go in, effects come out.

`handle` is the only door. The engine decides when to probe, gossip and compare notes; what statements
mean is `knowledge`'s business, whom to probe `prober`'s. The runner and the simulator feed it alike.
A client's engine is the same, but only asks: it probes nobody, accuses nobody and passes nothing on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from gossip.asking import Asking
from gossip.chronicle import Chronicle
from gossip.contacts import Contacts
from gossip.detector import Detector
from gossip.event import (
    Connected,
    Disconnected,
    Doubt,
    Effect,
    Event,
    Hint,
    Leave,
    LocalUpdate,
    Moved,
    Notify,
    RaiseBoot,
    Received,
    Recertified,
    Recheck,
    ReliableReceived,
    Seed,
    Tick,
)
from gossip.exchange import Exchange
from gossip.knowledge import Knowledge
from gossip.member import LocalNode
from gossip.message import (
    Delta,
    Digest,
    Packet,
    decode_packet,
    decode_reliable,
    encode_packet,
)
from gossip.pacing import Pacer
from gossip.picture import draw
from gossip.post import Post
from gossip.probe import Dice, Prober
from gossip.reading import Reading
from gossip.roster import Member
from gossip.timing import Timing
from gossip.trust import Verifier
from gossip.view import Status, View
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId, Peer, Role

logger = logging.getLogger("meshd.gossip")

FAREWELLS = 3
IDLE_TICK_S = 1.0

MUCH_NEWS = 10
"""Changes of members in one exchange, or a tenth of the mesh, from which on there is more to be had than gossip can
carry soon: of records a packet holds two, so those of half of 200 nodes take it a quarter of a minute."""

MORE_SYNCS = 3
MORE_SYNCS_S = 1.0
"""How often, and how far apart, notes are then compared beyond the regular times."""


class Engine:
    """One node's gossip. `next_deadline` says when it wants a Tick at the latest.

    reading: shared by the engines of one process, None for one of its own.
    """

    def __init__(
        self,
        me: LocalNode,
        verifier: Verifier,
        timing: Timing,
        dice: Dice,
        now: float,
        reading: Reading | None = None,
    ) -> None:
        self._me = me
        self._is_client = me.role is Role.CLIENT
        self._timing = timing
        self._dice = dice
        self._knowledge = Knowledge(me, verifier, timing, now, reading)
        self._exchange = Exchange(self._knowledge.roster, self._knowledge.facts)
        self._prober = Prober(timing, dice, now)
        self._post = Post(me.role, self._knowledge, timing, dice)
        self._detector = Detector(me.node, self._knowledge, self._post, self._prober)
        self._contacts = Contacts(me.node)
        self._chronicle = Chronicle()
        self._asking = Asking(timing, dice)
        self._pacer = Pacer()
        self._gossip_at = self._question_at = now
        self._sync_at = now + self._sync_s * dice.random()
        self._more_syncs = 0
        self._last = now
        self._is_running = False
        self._has_left = False
        self._version = 1
        self._has_changed = False
        self._deadline: float | None = None

    @property
    def counters(self) -> Mapping[str, int]:
        """How often something was refused or could not be judged, by kind."""
        return self._knowledge.counters

    @property
    def health(self) -> int:
        """Local health: 0 is well, 8 is as slow as it gets."""
        return self._prober.health

    @property
    def version(self) -> int:
        """Version of the view; grows with every Notify."""
        return self._version

    @property
    def next_deadline(self) -> float:
        """When the next Tick is due."""
        # Asked for more often than anything happens, and it comes nearer only when something does.
        if self._deadline is None:
            self._deadline = self._earliest()
        return self._deadline

    def _earliest(self) -> float:
        if self._has_left:
            return self._last + IDLE_TICK_S
        # Never far away, so that a longer silence means that this process stood still.
        earliest = min(self._last + IDLE_TICK_S, self._sync_at)
        if self._asking:
            earliest = min(earliest, *self._asking.deadlines())
        if self._is_client:
            return earliest
        earliest = min(earliest, self._prober.next_deadline)
        if self._gossip_at < earliest and self._knowledge.has_to_tell and self._post.links:
            earliest = self._gossip_at
        suspicion = self._knowledge.roster.next_deadline
        return earliest if suspicion is None else min(earliest, suspicion)

    def handle(self, now: float, event: Event) -> list[Effect]:
        """Take one event at `now` (monotonic seconds, never less than before); what is to be done.

        Raises ValueError for a LocalUpdate that breaks the bounds of `facts`, and for nothing else.
        """
        self._notice_pause(now)
        match event:
            case Tick():
                self._is_running = True
            case Received(peer, payload):
                self._receive(peer, payload, now)
            case ReliableReceived(peer, payload):
                self._receive_reliable(peer, payload, now)
            case Connected(peer):
                self._connect(peer, now)
            case Disconnected(node, reason, is_final):
                self._disconnect(node, reason, is_final, now)
            case LocalUpdate():
                self._update(event, now)
            case Hint(node, _):
                self._take_hint(node, now)
            case Seed(node, addresses):
                self._contacts.seed(node, addresses)
            case Moved(addresses):
                self._knowledge.move(addresses)
            case Recertified(certificate, serial):
                self._knowledge.recertify(certificate, serial)
            case Recheck():
                for node in self._knowledge.recheck():
                    self._contacts.forget(node, "it has been revoked")
            case Leave():
                self._leave()
        # Of most datagrams, which come more often than anything is due, there is no need to look.
        is_due = type(event) is not Received or self._may_be_due(now)
        if is_due and not self._has_left:
            self._on_time(now)
        self._settle(now)
        effects = self._post.take_effects()
        if is_due or effects:
            self._deadline = None
        return effects

    def is_certified(self, node: NodeId) -> bool:
        """Whether `node` is a member whose latest certificate counts now."""
        return self._knowledge.is_certified(node)

    def view(self, now: float, round_trips_ms: Mapping[NodeId, float]) -> View:
        """The mesh as this node sees it now; round trips are the transport's."""
        knowledge = self._knowledge
        return draw(self._version, knowledge.roster, knowledge.facts, self._post.links, round_trips_ms, now)

    # -- time

    def _notice_pause(self, now: float) -> None:
        gap = now - self._last
        self._last = now
        if gap > self._timing.pause_s and self._is_running:
            logger.warning("this process stood still for %.1f s; nobody is blamed for it", gap)
            self._knowledge.roster.extend_suspicions(gap)
            self._prober.pause(now)

    def _may_be_due(self, now: float) -> bool:
        """Whether to look at what time brings, after a datagram."""
        if self._deadline is None or now >= self._deadline:
            return True
        return bool(self._pacer) or (now >= self._gossip_at and self._knowledge.has_to_tell)

    def _on_time(self, now: float) -> None:
        if not self._is_client:
            self._detector.on_time(now)
            self._knowledge.expire(now)
        if self._pacer:
            self._release(now)
        if self._asking:
            self._ask_all(now)
        if now >= self._sync_at:
            self._sync_at = now + (MORE_SYNCS_S if self._more_syncs else self._sync_s)
            self._more_syncs = max(0, self._more_syncs - 1)
            self._knowledge.forget(now)
            self._sync(now)
        # Before gossip, so that what expired just now is told at once.
        if now >= self._gossip_at and self._knowledge.has_to_tell and not self._is_client:
            self._gossip_at = now + self._timing.gossip_s
            self._post.gossip(now)

    # -- gossip

    def _receive(self, node: NodeId, payload: bytes, now: float) -> None:
        peer = self._post.links.get(node)
        if self._is_client or self._has_left or peer is None or peer.role is Role.CLIENT:
            self._count("unwelcome_datagram")
            return
        try:
            packet = decode_packet(payload, node)
        except ProtocolError as error:
            self._refuse(error)
            return
        self._knowledge.hear_all(packet.rumours, node, now)
        if packet.outline:
            self._compare_outline(packet.outline, node, now)
        if packet.probe is not None:
            answer = self._detector.take_word(node, packet.probe, now)
            if answer is not None:
                self._post.send(node, answer)

    def _compare_outline(self, outline: Sequence[bytes], node: NodeId, now: float) -> None:
        """Tell a peer the facts that it lacks, and ask for those that it has named: at once or with the next round."""
        lacking, told = self._knowledge.hear_outline(outline, node, now)
        if told and not self._asking.may_answer_outline(node, now):
            self._count("asked_too_often")
            told = []
        if lacking and now < self._question_at:
            lacking, self._deadline = [], None
        if lacking:
            # A packet of its own is worth it where news is rare; where there is much, rounds carry the questions.
            self._question_at = now + self._timing.gossip_s
            self._knowledge.naming.note_asked(lacking)
        if lacking or told:
            self._post.send_facts(node, lacking, told)

    # -- anti-entropy and the reliable channel

    def _sync(self, now: float) -> None:
        """Compare notes with one that is alive; a member also with one that is dead but linked, which may refute."""
        partners = self._post.choose(1)
        if not self._is_client:
            partners += self._post.choose(1, status=Status.DEAD)
        for node in partners:
            self._ask(node)

    def _ask(self, peer: NodeId) -> None:
        """Compare notes with `peer`."""
        self._post.send_reliably(peer, self._exchange.digest(True))

    def _ask_all(self, now: float) -> None:
        """Compare notes with whomever it is time to."""
        for node in self._asking.take_greetings(now):
            peer = self._post.links.get(node)
            if peer is not None and not self._is_familiar(peer):
                self._asking.at_once(node, now)
        for node in self._asking.take_questions(now):
            if node in self._post.links:
                self._ask(node)
            else:
                self._asking.answered(node)

    def _receive_reliable(self, peer: Peer, payload: bytes, now: float) -> None:
        node = peer.node
        if self._has_left:
            return
        try:
            message = decode_reliable(payload, node)
        except ProtocolError as error:
            self._refuse(error)
            return
        is_member = peer.role is not Role.CLIENT
        match message:
            case Digest() if not self._asking.may_answer(node, now):
                self._count("asked_too_often")
            case Digest(is_request=True) if not self._is_client:
                self._answer(message, node, now, is_member=is_member)
            case Digest(is_request=False) if is_member:
                self._asking.answered(node)
                self._knowledge.compare(message, node)
                self._reply_all(self._exchange.answer(message, now))
            case Delta() if is_member:
                self._note_news(self._knowledge.apply(message, node, now), now)
                self._asking.answered(node)
                if message.has_more:
                    # Not at once: a peer that always has more must not keep this node busy.
                    self._asking.soon(node, now)
            case Packet() if is_member and not self._is_client:
                self._receive_reliable_packet(message, node, now)
            case _:
                self._count("unwelcome_message")

    def _note_news(self, changes: int, now: float) -> None:
        """Where an exchange changed the picture of many, compare notes with others soon as well."""
        if not self._is_client and changes >= max(MUCH_NEWS, self._knowledge.roster.present // 10):
            self._more_syncs = MORE_SYNCS
            self._sync_at = min(self._sync_at, now + MORE_SYNCS_S)

    def _answer(self, digest: Digest, node: NodeId, now: float, *, is_member: bool) -> None:
        """Tell the opener what it lacks; a member's own knowledge is wanted in turn, a client's is not."""
        self._reply_all(self._exchange.answer(digest, now))
        if is_member:
            self._knowledge.compare(digest, node)
            self._post.reply(self._exchange.digest(False))

    def _receive_reliable_packet(self, packet: Packet, node: NodeId, now: float) -> None:
        self._knowledge.hear_all(packet.rumours, node, now)
        answer = self._detector.take_word(node, packet.probe, now) if packet.probe is not None else None
        # Whoever accuses us to our face gets the refutation by return.
        own = [self._knowledge.roster.own.record.encoded] if packet.rumours else []
        if answer is not None or own:
            self._post.reply(encode_packet(answer, own))

    def _reply_all(self, pages: list[bytes]) -> None:
        for page in pages:
            self._post.reply(page)

    # -- links

    def _connect(self, peer: Peer, now: float) -> None:
        self._post.connect(peer)
        # A sign of life. What was asked before, perhaps of an earlier start, will not be answered any more.
        self._prober.call_off(peer.node)
        self._has_changed = True
        member = self._knowledge.roster.get(peer.node)
        if member is not None and member.record.boot == peer.boot:
            member.was_linked = True
        if peer.role is Role.CLIENT:
            logger.info("client %s (%s) connected", peer.name, short(peer.node))
        elif self._knowledge.roster.present == 1:
            self._asking.at_once(peer.node, now)
        elif not self._is_client and not self._is_familiar(peer):
            self._asking.greet(peer.node, now)

    def _is_familiar(self, peer: Peer) -> bool:
        """Whether gossip has already told all that a first exchange with `peer` would."""
        member = self._knowledge.roster.get(peer.node)
        if member is None or member.record.boot != peer.boot or member.status is not Status.ALIVE:
            return False
        return self._knowledge.facts.complete(peer.node) > 0

    def _disconnect(self, node: NodeId, reason: str, is_final: bool, now: float) -> None:
        self._asking.answered(node)
        if self._post.disconnect(node):
            self._has_changed = True
            # A connection that broke is evidence; one that the transport has given up on is old news.
            self._take_hint(node, now)

    def _take_hint(self, node: NodeId, now: float) -> None:
        if not self._is_client:
            self._detector.take_hint(node, now)

    # -- this node itself

    def _update(self, update: LocalUpdate, now: float) -> None:
        self._knowledge.facts.check(self._me.node, update.key, update.value)
        nodes = self._knowledge.roster.present
        key, value, is_quiet = update.key, update.value, update.is_quiet
        if self._pacer.admit(key, value, nodes, now, is_urgent=update.is_urgent, is_quiet=is_quiet):
            self._knowledge.publish(key, value, is_quiet=is_quiet)

    def _release(self, now: float) -> None:
        for key, value, is_quiet in self._pacer.due(self._knowledge.roster.present, now):
            self._knowledge.publish(key, value, is_quiet=is_quiet)

    def _leave(self) -> None:
        """Tell everyone in a datagram, and a few in a way that arrives."""
        if self._has_left:
            return
        self._has_left = True
        if self._is_client:
            return
        farewell = encode_packet(None, [self._knowledge.leave()])
        listeners = [node for node, peer in self._post.links.items() if peer.role is not Role.CLIENT]
        for node in listeners:
            self._post.send_datagram(node, farewell)
        for node in self._dice.sample(listeners, min(FAREWELLS, len(listeners))):
            self._post.send_reliably(node, farewell)

    # -- afterwards

    def _settle(self, now: float) -> None:
        """Draw the consequences of whatever the event changed."""
        knowledge = self._knowledge
        if knowledge.was_accused:
            knowledge.was_accused = False
            self._prober.accused(now)
            logger.info("accused of silence; refuted with incarnation %d", knowledge.roster.own.record.incarnation)
        if knowledge.was_reborn:
            knowledge.was_reborn = False
            self._post.want(RaiseBoot(knowledge.roster.own.record.boot))
        if knowledge.wanted:
            for peer in knowledge.wanted:
                if peer in self._post.links:
                    self._asking.soon(peer, now)
            knowledge.wanted.clear()
            self._deadline = None
        if knowledge.changed:
            self._follow_members(list(knowledge.changed.values()))
            knowledge.changed.clear()
        if knowledge.has_new_facts:
            knowledge.has_new_facts = False
            self._has_changed = True
        for effect in self._contacts.take_effects():
            self._post.want(effect)
        if self._has_changed:
            self._has_changed = False
            self._version += 1
            self._post.want(Notify())

    def _follow_members(self, members: list[Member]) -> None:
        for member in members:
            if member.node != self._me.node:
                self._follow(member)
        self._has_changed = True

    def _follow(self, member: Member) -> None:
        """Keep the rotation and the links in step with one member's entry."""
        node = member.node
        is_known = self._knowledge.roster.get(node) is member
        self._prober.rotation.include(node, is_known and member.is_probed)
        peer = self._post.links.get(node)
        if peer is not None and peer.boot == member.record.boot:
            member.was_linked = True
        if is_known:
            self._chronicle.note(member)
        else:
            self._chronicle.forget(node)
        if not is_known or member.status is Status.LEFT:
            self._contacts.let_go(node, "it has left the mesh" if is_known else "it has been gone for a day")
        else:
            self._contacts.keep(node, member.record.addresses)
        if member.status is Status.DEAD and peer is not None:
            self._post.want(Doubt(node, "it answers nobody"))

    def _count(self, kind: str) -> None:
        self._knowledge.counters[kind] += 1

    def _refuse(self, error: ProtocolError) -> None:
        self._count("malformed")
        logger.debug("refused: %s", error)

    @property
    def _sync_s(self) -> float:
        return self._timing.client_pull_s if self._is_client else self._timing.sync_s
