"""Finds out who is silent: runs the probes of `probe` over the links and draws the conclusion."""

from __future__ import annotations

from gossip.knowledge import Knowledge
from gossip.message import Ack, Nack, Ping, PingRequest, ProbeWord, encode_packet
from gossip.post import Post
from gossip.probe import Errand, Probe, Prober
from gossip.timing import INDIRECT_PROBES
from gossip.view import Status
from transport.interface import NodeId


class Detector:
    """A member's failure detector. A client has none."""

    def __init__(self, me: NodeId, knowledge: Knowledge, post: Post, prober: Prober) -> None:
        self._me = me
        self._knowledge = knowledge
        self._post = post
        self._prober = prober

    def on_time(self, now: float) -> None:
        """Do what is due: report errands, judge probes, ask around, begin a round."""
        if now < self._prober.next_deadline:
            return
        for errand in self._prober.failed_errands(now):
            self._post.send(errand.client, Nack(errand.client_sequence, True))
        for probe in self._prober.failed(now):
            self._judge(probe, now)
        for probe in self._prober.to_ask_around(now):
            self._ask_around(probe)
        begun = self._prober.begin_round(now, self._knowledge.roster.wanting)
        if begun is not None:
            self._ping(begun, now)

    def _ping(self, probe: Probe, now: float) -> None:
        if probe.target in self._post.links:
            self._post.send(probe.target, Ping(probe.sequence))
        else:
            probe.ask_at = now
            for late in self._prober.to_ask_around(now):
                self._ask_around(late)

    def _ask_around(self, probe: Probe) -> None:
        helpers = self._post.choose(INDIRECT_PROBES, besides=probe.target)
        for helper in helpers:
            probe.helpers[helper] = None
            self._post.send(helper, PingRequest(probe.sequence, probe.target))
        if probe.target in self._post.links:
            self._post.send_reliably(probe.target, encode_packet(Ping(probe.sequence), []))

    def _judge(self, probe: Probe, now: float) -> None:
        """Accuse the target of a failed probe, if there is evidence.

        Never having had a connection to it is none: it may be this node's firewall.
        """
        member = self._knowledge.roster.get(probe.target)
        has_link = probe.target in self._post.links
        if member is None or not member.is_probed or not (has_link or member.was_linked or probe.was_tried):
            return
        accusation = self._knowledge.accuse(probe.target, now, hinted_at=probe.hinted_at)
        if accusation is not None and has_link:
            packet = encode_packet(None, [accusation])
            self._post.send_datagram(probe.target, packet)
            self._post.send_reliably(probe.target, packet)

    def take_hint(self, node: NodeId, now: float) -> None:
        """Something that used `node` failed: a voice against a suspect, a reason to ask anyone else."""
        member = self._knowledge.roster.get(node)
        if member is None or node == self._me or not member.is_probed:
            return
        if member.status is Status.SUSPECT:
            self._knowledge.accuse(node, now)
        probe = self._prober.begin(node, now, is_hinted=True)
        if probe is not None:
            self._ping(probe, now)

    def take_word(self, peer: NodeId, word: ProbeWord, now: float) -> ProbeWord | None:
        """The answer to what `peer` says, if it gets one at once."""
        match word:
            case Ping(sequence):
                return Ack(sequence)
            case PingRequest(sequence, target):
                return self._run_errand(peer, sequence, NodeId(target), now)
            case Ack(sequence):
                done = self._prober.acknowledge(sequence, peer, now)
                if isinstance(done, Errand):
                    self._post.send(done.client, Ack(done.client_sequence))
            case Nack(sequence, linked):
                self._prober.deny(sequence, peer, linked)
        return None

    def _run_errand(self, client: NodeId, sequence: int, target: NodeId, now: float) -> ProbeWord | None:
        if target == self._me:
            return Ack(sequence)
        if target not in self._post.links:
            return Nack(sequence, False)
        own_sequence = self._prober.run_errand(target, client, sequence, now)
        if own_sequence is not None:
            self._post.send(target, Ping(own_sequence))
        return None
