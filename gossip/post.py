"""What leaves this node: packets with rumours aboard, to whom it has links, and whom it picks for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, islice

from gossip.broadcast import Filling, transmissions
from gossip.event import Effect, Reply, SendDatagram, SendReliable
from gossip.knowledge import Knowledge
from gossip.message import (
    MAX_OUTLINE_ENTRIES,
    MAX_RUMOURS_PER_PACKET,
    NAMING_COST,
    RUMOUR_BUDGET_BYTES,
    ProbeWord,
    encode_packet,
    rumour_cost,
)
from gossip.probe import Dice
from gossip.timing import GOSSIP_FANOUT, Timing
from gossip.view import Status
from transport.interface import NodeId, Peer, Role


class Post:
    """The links of this node and the effects it has in mind. A client's packets carry no rumours.

    links: connected peers, in the order in which they came.
    """

    def __init__(self, role: Role, knowledge: Knowledge, timing: Timing, dice: Dice) -> None:
        self._is_client = role is Role.CLIENT
        self._knowledge = knowledge
        self._timing = timing
        self._dice = dice
        self._effects: list[Effect] = []
        self._listeners: list[NodeId] = []
        self._listeners_state = (-1, -1)
        self._listeners_until = float("inf")
        self._links_version = 0
        self.links: dict[NodeId, Peer] = {}

    def connect(self, peer: Peer) -> None:
        """A link came up, the first or a new one."""
        self.links[peer.node] = peer
        self._links_version += 1

    def disconnect(self, node: NodeId) -> bool:
        """A link went down; whether there was one."""
        self._links_version += 1
        return self.links.pop(node, None) is not None

    def take_effects(self) -> list[Effect]:
        """What is to be done since the last time."""
        effects, self._effects = self._effects, []
        return effects

    def want(self, effect: Effect) -> None:
        """Have something else done, in order with what is sent."""
        self._effects.append(effect)

    def send(self, peer: NodeId, word: ProbeWord | None, lacking: Sequence[NodeId] = ()) -> None:
        """Send one packet: the probe word and whatever rumours fit. Neither: nothing.

        lacking: of whose facts `peer` knows more.
        """
        filling = self._rumours_for(peer, len(lacking))
        if word is not None or lacking or filling.rumours or filling.named:
            named: Iterable[NodeId] = filling.named
            if lacking:
                named = islice(dict.fromkeys((*lacking, *named)), MAX_OUTLINE_ENTRIES)
            self.send_datagram(peer, encode_packet(word, filling.rumours, self._knowledge.outline(named)))

    def send_facts(self, peer: NodeId, lacking: list[NodeId], told: list[bytes]) -> None:
        """Answer an outline: whose facts are lacking here, and what fits of those that `peer` lacks."""
        outline = self._knowledge.outline(lacking[:MAX_OUTLINE_ENTRIES])
        budget = RUMOUR_BUDGET_BYTES - NAMING_COST * len(outline)
        costs = accumulate(map(rumour_cost, told))
        fitting = [fact for fact, cost in zip(told, costs, strict=True) if cost <= budget]
        self.send_datagram(peer, encode_packet(None, fitting[:MAX_RUMOURS_PER_PACKET], outline))

    def send_datagram(self, peer: NodeId, payload: bytes) -> None:
        self._effects.append(SendDatagram(peer, payload))

    def send_reliably(self, peer: NodeId, payload: bytes) -> None:
        self._effects.append(SendReliable(peer, payload))

    def reply(self, payload: bytes) -> None:
        self._effects.append(Reply(payload))

    def gossip(self, now: float) -> None:
        """Tell rumours to a few: to those who are asked for facts at the same time, else to whom chance picks."""
        questions = self._knowledge.naming.take_questions()
        listeners = self._audience(now)
        chosen = dict.fromkeys(peer for peer in questions if peer in self.links)
        for peer in self._dice.sample(listeners, min(GOSSIP_FANOUT, len(listeners))):
            if len(chosen) < GOSSIP_FANOUT:
                chosen[peer] = None
        for peer in chosen:
            self.send(peer, None, questions.get(peer, ()))

    def _audience(self, now: float) -> list[NodeId]:
        """Whom rumours are told: linked members that are present, or newly dead, since those may refute."""
        state = (self._knowledge.roster.version, self._links_version)
        if state != self._listeners_state or now >= self._listeners_until:
            self._listeners_state = state
            ends = {node: self._listens_until(node) for node in self.links}
            self._listeners = [node for node, end in ends.items() if now < end]
            self._listeners_until = min((end for end in ends.values() if now < end), default=float("inf"))
        return self._listeners

    def _listens_until(self, node: NodeId) -> float:
        member = self._knowledge.roster.get(node)
        if member is None or member.status is Status.LEFT:
            return float("-inf")
        is_dead = member.status is Status.DEAD
        return member.since + self._timing.gossip_to_dead_s if is_dead else float("inf")

    def choose(self, count: int, *, besides: NodeId | None = None, status: Status = Status.ALIVE) -> list[NodeId]:
        """Up to `count` linked members of that status, picked at random."""
        able = [node for node in self.links if node != besides and self.stands(node, status)]
        return self._dice.sample(able, min(count, len(able)))

    def stands(self, node: NodeId, status: Status) -> bool:
        """Whether `node` is a member of that status."""
        member = self._knowledge.roster.get(node)
        return member is not None and member.status is status

    def _rumours_for(self, peer: NodeId, lacking: int) -> Filling:
        if self._is_client:
            return Filling([], [])
        accusations: list[bytes] = []
        budget = RUMOUR_BUDGET_BYTES - NAMING_COST * min(lacking, MAX_OUTLINE_ENTRIES)
        member = self._knowledge.roster.get(peer)
        # A suspect hears of it first of all, with every packet (Lifeguard, "buddy system").
        if member is not None and member.status in (Status.SUSPECT, Status.DEAD):
            accusations.append(self._knowledge.accusation_of(member))
            budget -= rumour_cost(accusations[0])
        limit = transmissions(self._knowledge.roster.present)
        filling = self._knowledge.rumours.fill(limit, budget, MAX_RUMOURS_PER_PACKET - len(accusations))
        return Filling(accusations + filling.rumours, filling.named)
