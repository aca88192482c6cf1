"""SWIM with Lifeguard and Scuttlebutt as one pure machine: events and the time go in, effects come out.

`handle` is the only door. The engine decides when to probe, gossip and compare notes; what statements
mean is `knowledge`'s business, whom to probe `prober`'s. The runner and the simulator feed it alike.
A client's engine is the same, but only asks: it probes nobody, accuses nobody and passes nothing on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from gossip.broadcast import transmissions
from gossip.chronicle import Chronicle
from gossip.contacts import Contacts
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
    ReliableReceived,
    Reply,
    Seed,
    SendDatagram,
    SendReliable,
    Tick,
)
from gossip.exchange import Exchange
from gossip.knowledge import Knowledge
from gossip.member import LocalNode
from gossip.message import (
    MAX_RUMOURS_PER_PACKET,
    RUMOUR_BUDGET_BYTES,
    Ack,
    Delta,
    Digest,
    Nack,
    Packet,
    Ping,
    PingRequest,
    ProbeWord,
    decode_packet,
    decode_reliable,
    encode_packet,
    rumour_cost,
)
from gossip.pacing import Pacer
from gossip.picture import draw
from gossip.probe import Dice, Errand, Probe, Prober
from gossip.roster import Member
from gossip.timing import GOSSIP_FANOUT, INDIRECT_PROBES, Timing
from gossip.trust import Verifier
from gossip.view import Status, View
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId, Peer, Role

logger = logging.getLogger("meshd.gossip")

FAREWELLS = 3
# An exchange that was not answered is tried again after this long.
RETRY_S = 2.0
# How long gossip has to introduce a newly connected peer before an exchange with it does.
GREETING_S = 1.5
IDLE_TICK_S = 1.0


class Engine:
    """One node's gossip. `next_deadline` says when it wants a Tick at the latest."""

    def __init__(self, me: LocalNode, verifier: Verifier, timing: Timing, dice: Dice, now: float) -> None:
        self._me = me
        self._timing = timing
        self._dice = dice
        self._knowledge = Knowledge(me, verifier, timing, now)
        self._exchange = Exchange(self._knowledge.roster, self._knowledge.facts)
        self._prober = Prober(timing, dice, now)
        self._links: dict[NodeId, Peer] = {}
        self._links_version = 0
        self._listeners: list[NodeId] = []
        self._audience_state = (-1, -1, -1)
        self._contacts = Contacts(me.node)
        self._chronicle = Chronicle()
        self._asked: dict[NodeId, float] = {}
        self._greetings: dict[NodeId, float] = {}
        self._pacer = Pacer()
        self._gossip_at = now
        self._sync_at = now + self._sync_s * dice.random()
        self._last = now
        self._is_running = False
        self._has_left = False
        self._version = 1
        self._has_changed = False
        self._effects: list[Effect] = []

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
        if self._has_left:
            return self._last + IDLE_TICK_S
        # Never far away, so that a longer silence means that this process stood still.
        deadline = min(self._last + IDLE_TICK_S, self._sync_at, *self._asked.values(), *self._greetings.values())
        if self._is_client:
            return deadline
        if len(self._knowledge.rumours) and self._links:
            deadline = min(deadline, self._gossip_at)
        suspicion = self._knowledge.roster.next_deadline
        deadline = min(deadline, self._prober.next_deadline)
        return deadline if suspicion is None else min(deadline, suspicion)

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
            case Leave():
                self._leave()
        if not self._has_left:
            self._on_time(now)
        self._settle(now)
        effects, self._effects = self._effects, []
        return effects

    def view(self, now: float, round_trips_ms: Mapping[NodeId, float]) -> View:
        """The mesh as this node sees it now; round trips are the transport's."""
        knowledge = self._knowledge
        return draw(self._version, knowledge.roster, knowledge.facts, self._links, round_trips_ms, now)

    # -- time

    def _notice_pause(self, now: float) -> None:
        gap = now - self._last
        self._last = now
        if gap > self._timing.pause_s and self._is_running:
            logger.warning("this process stood still for %.1f s; nobody is blamed for it", gap)
            self._knowledge.roster.extend_suspicions(gap)
            self._prober.pause(now)

    def _on_time(self, now: float) -> None:
        if not self._is_client:
            self._probe(now)
            self._knowledge.expire(now)
        self._release(now)
        if self._greetings:
            self._greet(now)
        if self._asked:
            self._retry_asking(now)
        if now >= self._sync_at:
            self._sync_at = now + self._sync_s
            self._knowledge.forget(now)
            self._sync(now)
        # Before gossip, so that what expired just now is told at once.
        if now >= self._gossip_at and len(self._knowledge.rumours) and not self._is_client:
            self._gossip_at = now + self._timing.gossip_s
            self._gossip(now)

    # -- probing

    def _probe(self, now: float) -> None:
        for errand in self._prober.failed_errands(now):
            self._send(errand.client, Nack(errand.client_sequence, True))
        for probe in self._prober.failed(now):
            self._judge(probe, now)
        for probe in self._prober.to_ask_around(now):
            self._ask_around(probe)
        begun = self._prober.begin_round(now)
        if begun is not None:
            self._ping(begun, now)

    def _ping(self, probe: Probe, now: float) -> None:
        if probe.target in self._links:
            self._send(probe.target, Ping(probe.sequence))
        else:
            probe.ask_at = now
            for late in self._prober.to_ask_around(now):
                self._ask_around(late)

    def _ask_around(self, probe: Probe) -> None:
        helpers = self._choose(INDIRECT_PROBES, besides=probe.target)
        for helper in helpers:
            probe.helpers[helper] = None
            self._send(helper, PingRequest(probe.sequence, probe.target))
        if probe.target in self._links:
            self._effects.append(SendReliable(probe.target, encode_packet(Ping(probe.sequence), [])))

    def _judge(self, probe: Probe, now: float) -> None:
        """Accuse the target of a failed probe, if there is evidence.

        Never having had a connection to it is none: it may be this node's firewall.
        """
        member = self._knowledge.roster.get(probe.target)
        has_link = probe.target in self._links
        if member is None or not member.is_probed or not (has_link or member.was_linked or probe.was_tried):
            return
        accusation = self._knowledge.accuse(probe.target, now, hinted=probe.was_hinted)
        if accusation is not None and has_link:
            packet = encode_packet(None, [accusation])
            self._effects.append(SendDatagram(probe.target, packet))
            self._effects.append(SendReliable(probe.target, packet))

    def _take_hint(self, node: NodeId, now: float) -> None:
        member = self._knowledge.roster.get(node)
        if self._is_client or member is None or node == self._me.node or not member.is_probed:
            return
        if member.status is Status.SUSPECT:
            self._knowledge.accuse(node, now)
        probe = self._prober.begin(node, now, was_hinted=True)
        if probe is not None:
            self._ping(probe, now)

    def _take_probe(self, peer: NodeId, word: ProbeWord, now: float) -> ProbeWord | None:
        """The answer to what `peer` says, if it gets one at once."""
        match word:
            case Ping(sequence):
                return Ack(sequence)
            case PingRequest(sequence, target):
                return self._run_errand(peer, sequence, NodeId(target), now)
            case Ack(sequence):
                done = self._prober.acknowledge(sequence, peer)
                if isinstance(done, Errand):
                    self._send(done.client, Ack(done.client_sequence))
            case Nack(sequence, linked):
                self._prober.deny(sequence, peer, linked)
        return None

    def _run_errand(self, client: NodeId, sequence: int, target: NodeId, now: float) -> ProbeWord | None:
        if target == self._me.node:
            return Ack(sequence)
        if target not in self._links:
            return Nack(sequence, False)
        own_sequence = self._prober.run_errand(target, client, sequence, now)
        if own_sequence is not None:
            self._send(target, Ping(own_sequence))
        return None

    # -- gossip

    def _gossip(self, now: float) -> None:
        listeners = self._audience(now)
        for peer in self._dice.sample(listeners, min(GOSSIP_FANOUT, len(listeners))):
            self._send(peer, None)

    def _audience(self, now: float) -> list[NodeId]:
        """Whom rumours are told: linked members that are present, or newly dead, since those may refute."""
        state = (self._knowledge.roster.version, self._links_version, int(now))
        if state != self._audience_state:
            self._audience_state = state
            self._listeners = [node for node in self._links if self._hears_rumours(node, now)]
        return self._listeners

    def _hears_rumours(self, node: NodeId, now: float) -> bool:
        member = self._knowledge.roster.get(node)
        if member is None:
            return False
        is_newly_dead = member.status is Status.DEAD and now - member.since < self._timing.gossip_to_dead_s
        return member.is_probed or is_newly_dead

    def _choose(self, count: int, besides: NodeId | None = None) -> list[NodeId]:
        """Up to `count` linked members that are alive."""
        alive = [node for node in self._links if node != besides and self._stands(node, Status.ALIVE)]
        return self._dice.sample(alive, min(count, len(alive)))

    def _stands(self, node: NodeId, status: Status) -> bool:
        member = self._knowledge.roster.get(node)
        return member is not None and member.status is status

    def _send(self, peer: NodeId, word: ProbeWord | None) -> None:
        """Send one packet: the probe word and whatever rumours fit. None with no rumours: nothing."""
        rumours = self._rumours_for(peer)
        if word is not None or rumours:
            self._effects.append(SendDatagram(peer, encode_packet(word, rumours)))

    def _rumours_for(self, peer: NodeId) -> list[bytes]:
        if self._is_client:
            return []
        rumours: list[bytes] = []
        budget = RUMOUR_BUDGET_BYTES
        member = self._knowledge.roster.get(peer)
        # A suspect hears of it first of all, with every packet (Lifeguard, "buddy system").
        if member is not None and member.status in (Status.SUSPECT, Status.DEAD):
            rumours.append(self._knowledge.accusation_of(member))
            budget -= rumour_cost(rumours[0])
        limit = transmissions(self._knowledge.roster.present)
        rumours.extend(self._knowledge.rumours.fill(limit, budget, MAX_RUMOURS_PER_PACKET - len(rumours)))
        return rumours

    def _receive(self, node: NodeId, payload: bytes, now: float) -> None:
        peer = self._links.get(node)
        if self._is_client or self._has_left or peer is None or peer.role is Role.CLIENT:
            self._count("unwelcome_datagram")
            return
        try:
            packet = decode_packet(payload, node)
        except ProtocolError as error:
            self._refuse(error)
            return
        self._hear(packet, node, now)
        if packet.probe is not None:
            answer = self._take_probe(node, packet.probe, now)
            if answer is not None:
                self._send(node, answer)

    def _hear(self, packet: Packet, peer: NodeId, now: float) -> None:
        for rumour in packet.rumours:
            self._knowledge.hear(rumour, peer, now)

    # -- anti-entropy and the reliable channel

    def _sync(self, now: float) -> None:
        if self._is_client:
            for member in self._choose(1):
                self._ask(member, now, retry=False)
            return
        dead = [node for node in self._links if self._stands(node, Status.DEAD)]
        for node in self._choose(1) + self._dice.sample(dead, min(1, len(dead))):
            self._ask(node, now, retry=False)

    def _ask(self, peer: NodeId, now: float, *, retry: bool) -> None:
        """Compare notes with `peer`; `retry` until it answers."""
        if retry:
            self._asked[peer] = now + RETRY_S
        self._effects.append(SendReliable(peer, self._exchange.digest(True)))

    def _retry_asking(self, now: float) -> None:
        for peer in [peer for peer, due in self._asked.items() if due <= now]:
            if peer not in self._links:
                del self._asked[peer]
            else:
                self._ask(peer, now, retry=True)

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
            case Digest(is_request=True) if not self._is_client:
                self._answer(message, now, is_member=is_member)
            case Digest(is_request=False) if is_member:
                self._asked.pop(node, None)
                self._reply_all(self._exchange.answer(message, now))
            case Delta() if is_member:
                self._knowledge.apply(message, node, now)
                self._asked.pop(node, None)
                if message.has_more:
                    self._ask(node, now, retry=True)
            case Packet() if is_member and not self._is_client:
                self._receive_reliable_packet(message, node, now)
            case _:
                self._count("unwelcome_message")

    def _answer(self, digest: Digest, now: float, *, is_member: bool) -> None:
        """Tell the opener what it lacks; a member's own knowledge is wanted in turn, a client's is not."""
        self._reply_all(self._exchange.answer(digest, now))
        if is_member:
            self._effects.append(Reply(self._exchange.digest(False)))

    def _receive_reliable_packet(self, packet: Packet, node: NodeId, now: float) -> None:
        self._hear(packet, node, now)
        answer = self._take_probe(node, packet.probe, now) if packet.probe is not None else None
        # Whoever accuses us to our face gets the refutation by return.
        own = [self._knowledge.roster.own.record.encoded] if packet.rumours else []
        if answer is not None or own:
            self._effects.append(Reply(encode_packet(answer, own)))

    def _reply_all(self, pages: list[bytes]) -> None:
        self._effects.extend(Reply(page) for page in pages)

    # -- links

    def _connect(self, peer: Peer, now: float) -> None:
        self._links[peer.node] = peer
        self._links_changed()
        member = self._knowledge.roster.get(peer.node)
        if member is not None and member.record.boot == peer.boot:
            member.was_linked = True
        if peer.role is Role.CLIENT:
            logger.info("client %s (%s) connected", peer.name, short(peer.node))
        elif self._knowledge.roster.present == 1:
            self._asked[peer.node] = now
        elif not self._is_client and not self._is_familiar(peer):
            # Later, and only if still needed: when many links come up together, after a start or a healed
            # partition, gossip and the first exchange make most of the others needless.
            self._greetings[peer.node] = now + GREETING_S * (0.2 + 0.8 * self._dice.random())

    def _is_familiar(self, peer: Peer) -> bool:
        """Whether gossip has already told all that a first exchange with `peer` would."""
        member = self._knowledge.roster.get(peer.node)
        if member is None or member.record.boot != peer.boot or member.status is not Status.ALIVE:
            return False
        return self._knowledge.facts.complete(peer.node) > 0

    def _greet(self, now: float) -> None:
        for node in [node for node, due in self._greetings.items() if due <= now]:
            del self._greetings[node]
            peer = self._links.get(node)
            if peer is not None and node not in self._asked and not self._is_familiar(peer):
                self._ask(node, now, retry=True)

    def _disconnect(self, node: NodeId, reason: str, is_final: bool, now: float) -> None:
        self._asked.pop(node, None)
        if self._links.pop(node, None) is not None:
            self._links_changed()
            # A connection that broke is evidence; one that the transport has given up on is old news.
            self._take_hint(node, now)

    # -- this node itself

    def _update(self, update: LocalUpdate, now: float) -> None:
        self._knowledge.facts.check(self._me.node, update.key, update.value)
        nodes = self._knowledge.roster.present
        if self._pacer.admit(update.key, update.value, nodes, now, is_urgent=update.is_urgent):
            self._knowledge.publish(update.key, update.value)

    def _release(self, now: float) -> None:
        for key, value in self._pacer.due(self._knowledge.roster.present, now):
            self._knowledge.publish(key, value)

    def _leave(self) -> None:
        """Tell everyone in a datagram, and a few in a way that arrives."""
        if self._has_left:
            return
        self._has_left = True
        if self._is_client:
            return
        farewell = encode_packet(None, [self._knowledge.leave()])
        listeners = [node for node, peer in self._links.items() if peer.role is not Role.CLIENT]
        self._effects.extend(SendDatagram(node, farewell) for node in listeners)
        certain = self._dice.sample(listeners, min(FAREWELLS, len(listeners)))
        self._effects.extend(SendReliable(node, farewell) for node in certain)

    # -- afterwards

    def _settle(self, now: float) -> None:
        """Draw the consequences of whatever the event changed."""
        knowledge = self._knowledge
        if knowledge.was_accused:
            knowledge.was_accused = False
            self._prober.worsen()
            logger.info("accused of silence; refuted with incarnation %d", knowledge.roster.own.record.incarnation)
        if knowledge.was_reborn:
            knowledge.was_reborn = False
            self._effects.append(RaiseBoot(knowledge.roster.own.record.boot))
        if knowledge.wanted:
            for peer in knowledge.wanted:
                if peer in self._links and peer not in self._asked:
                    self._asked[peer] = now + self._timing.gossip_s
            knowledge.wanted.clear()
        if knowledge.changed:
            self._follow_members(list(knowledge.changed.values()))
            knowledge.changed.clear()
        self._effects.extend(self._contacts.take_effects())
        if self._has_changed:
            self._has_changed = False
            self._version += 1
            self._effects.append(Notify())

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
        peer = self._links.get(node)
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
            self._effects.append(Doubt(node, "it answers nobody"))

    def _links_changed(self) -> None:
        self._links_version += 1
        self._has_changed = True

    def _count(self, kind: str) -> None:
        self._knowledge.counters[kind] += 1

    def _refuse(self, error: ProtocolError) -> None:
        self._count("malformed")
        logger.debug("refused: %s", error)

    @property
    def _is_client(self) -> bool:
        return self._me.role is Role.CLIENT

    @property
    def _sync_s(self) -> float:
        return self._timing.client_pull_s if self._is_client else self._timing.sync_s
