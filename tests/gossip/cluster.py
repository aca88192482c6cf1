"""Many engines on one heap of timed deliveries: no tasks, no sockets, one seed.

Links come up when an engine says Keep and both ends are there; a killed node's links stay open at the
others, as a QUIC connection does when its peer dies without a word.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from gossip.engine import Engine
from gossip.event import (
    Connected,
    Disconnected,
    Doubt,
    Drop,
    Effect,
    Event,
    Keep,
    Leave,
    LocalUpdate,
    Notify,
    Persist,
    RaiseBoot,
    Received,
    ReliableReceived,
    Reply,
    Seed,
    SendDatagram,
    SendReliable,
    Tick,
)
from gossip.member import LocalNode
from gossip.timing import LAN, Timing
from gossip.view import NodeView, Status, View
from tests.gossip.identities import CheapVerifier, cheap_self
from transport.interface import MAX_DATAGRAM_BYTES, Address, NodeId, Peer, Role

REDIAL_S = 1.0


@dataclass(slots=True, eq=False)
class Node:
    """One engine, and what the world around it holds for it."""

    me: LocalNode
    engine: Engine
    is_up: bool = True
    tick_at: float = float("inf")
    kept: dict[NodeId, tuple[Address, ...]] = field(default_factory=dict)
    book: tuple[tuple[NodeId, tuple[Address, ...]], ...] = ()
    links: dict[NodeId, int] = field(default_factory=dict)
    doubted: list[NodeId] = field(default_factory=list)
    raised_boot: int = 0
    bytes_sent: int = 0

    def as_peer(self) -> Peer:
        """Who it proves to be on its connections."""
        return Peer(self.me.node, self.me.role, self.me.boot, self.me.name, self.me.certificate)


class Cluster:
    """A mesh in one process. delay_s: one way, with as much jitter again.  loss: share of datagrams."""

    def __init__(self, seed: int, *, delay_s: float = 0.01, loss: float = 0.0, timing: Timing = LAN) -> None:
        self.seed = seed
        self.now = 1000.0
        self.delay_s = delay_s
        self.loss = loss
        self.timing = timing
        self.nodes: dict[NodeId, Node] = {}
        self.blocked: dict[tuple[NodeId, NodeId], bool] = {}
        self.largest_datagram = 0
        self.datagrams = 0
        self._dice = random.Random(seed)
        self._verifier = CheapVerifier()
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = 0

    # -- what a test does

    def start(self, name: str, *, introducer: NodeId | None = None, role: Role = Role.MEMBER, boot: int = 1) -> NodeId:
        """Bring up a node; with an introducer it dials that one, else whoever its address book names."""
        me = cheap_self(name, role, boot)
        dice = random.Random(f"{self.seed} {name} {boot}")
        node = Node(me, Engine(me, self._verifier, self.timing, dice, self.now))
        former = self.nodes.get(me.node)
        self.nodes[me.node] = node
        if role is not Role.CLIENT:
            self.tell(me.node, LocalUpdate("sys", name.encode()))
        for known, addresses in former.book if former is not None else ():
            self.tell(me.node, Seed(known, addresses))
        if introducer is not None:
            self.tell(me.node, Seed(introducer, self.nodes[introducer].me.addresses))
        self._plan_tick(node)
        return me.node

    def mesh(self, count: int) -> list[NodeId]:
        """Start `count` members, all introduced by the first, and let them find each other."""
        first = self.start("node0")
        nodes = [first, *(self.start(f"node{index}", introducer=first) for index in range(1, count))]
        self.run(5.0)
        return nodes

    def tell(self, node: NodeId, event: Event) -> list[Effect]:
        """Let a node have an event out of turn; what it wants done, which is being done."""
        return self._handle(self.nodes[node], event)

    def later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Have something done while the cluster runs."""
        self._at(self.now + delay_s, action)

    def kill(self, node: NodeId) -> None:
        """Let a node vanish without a word."""
        self.nodes[node].is_up = False

    def shut_down(self, node: NodeId) -> None:
        """Let a node leave: its last words are sent, then its links close."""
        self.tell(node, Leave())
        self.run(1.0)
        self.kill(node)
        for other in list(self.nodes[node].links):
            self._unlink(node, other, "closed by peer")

    def part(self, some: list[NodeId], others: list[NodeId]) -> None:
        """Let nothing through between two groups."""
        for one in some:
            for other in others:
                self.blocked[one, other] = self.blocked[other, one] = True

    def heal(self) -> None:
        """End every partition."""
        self.blocked.clear()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit_s: float) -> float:
        """Run until `condition` holds; how long it took. Fails after `limit_s`."""
        start = self.now
        while not condition():
            assert self.now - start < limit_s, f"not within {limit_s} s (seed {self.seed}): {self.summary()}"
            self.run(0.05)
        return self.now - start

    def view(self, node: NodeId) -> View:
        return self.nodes[node].engine.view(self.now, {})

    def seen(self, by: NodeId, whom: NodeId) -> NodeView:
        entry = self.view(by).get(whom)
        assert entry is not None, f"{self.nodes[by].me.name} does not know {self.nodes[whom].me.name}"
        return entry

    def status(self, by: NodeId, whom: NodeId) -> Status | None:
        entry = self.view(by).get(whom)
        return entry.status if entry is not None else None

    def all_see(self, observers: list[NodeId], whom: NodeId, status: Status) -> bool:
        return all(self.status(one, whom) is status for one in observers if one != whom)

    def is_converged(self, members: list[NodeId]) -> bool:
        """Whether all of `members` see all of them alive, with the same facts."""
        pictures = [
            [(entry.node, entry.status, entry.boot, entry.incarnation, dict(entry.facts)) for entry in sorted_nodes]
            for sorted_nodes in (sorted(self.view(one).nodes, key=lambda entry: entry.node) for one in members)
        ]
        alive = [node for node, status, *_ in pictures[0] if status is Status.ALIVE]
        return all(one == pictures[0] for one in pictures) and sorted(members) == alive

    def summary(self) -> str:
        return "; ".join(
            f"{node.me.name}: " + " ".join(f"{entry.name}={entry.status.name}" for entry in self.view(key).nodes)
            for key, node in self.nodes.items()
            if node.is_up
        )

    # -- the world

    def _at(self, due: float, action: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (due, self._order, action))

    def _handle(self, node: Node, event: Event) -> list[Effect]:
        effects = node.engine.handle(self.now, event)
        for effect in effects:
            self._perform(node, effect)
        self._plan_tick(node)
        return effects

    def _plan_tick(self, node: Node) -> None:
        due = max(self.now, node.engine.next_deadline)
        if due < node.tick_at or node.tick_at <= self.now:
            node.tick_at = due
            self._at(due, lambda: self._tick(node, due))

    def _tick(self, node: Node, due: float) -> None:
        if node.is_up and node.tick_at == due:
            node.tick_at = float("inf")
            if node.engine.next_deadline <= self.now:
                self._handle(node, Tick())
            self._plan_tick(node)

    def _perform(self, node: Node, effect: Effect) -> None:
        match effect:
            case SendDatagram(peer, payload):
                self._send_datagram(node, peer, payload)
            case SendReliable(peer, payload):
                self._send_reliable(node, peer, payload)
            case Keep(peer, addresses):
                if peer not in node.kept:
                    self._at(self.now + 2 * self.delay_s, lambda: self._dial(node, peer))
                node.kept[peer] = addresses
            case Drop(peer, reason):
                node.kept.pop(peer, None)
                self._unlink(node.me.node, peer, reason)
            case Doubt(peer, _):
                node.doubted.append(peer)
            case Persist(book):
                node.book = book
            case RaiseBoot(boot):
                node.raised_boot = boot
            case Reply() | Notify():
                pass

    def _is_open(self, one: NodeId, other: NodeId) -> bool:
        return not self.blocked.get((one, other)) and other in self.nodes and self.nodes[other].is_up

    def _send_datagram(self, node: Node, peer: NodeId, payload: bytes) -> None:
        self.largest_datagram = max(self.largest_datagram, len(payload))
        self.datagrams += 1
        node.bytes_sent += len(payload)
        assert len(payload) <= MAX_DATAGRAM_BYTES
        if peer in node.links and self._is_open(node.me.node, peer) and self._dice.random() >= self.loss:
            event = Received(node.me.node, payload)
            self._at(self.now + self._delay(), partial(self._deliver, peer, event))

    def _deliver(self, peer: NodeId, event: Event) -> list[Effect]:
        node = self.nodes[peer]
        return self._handle(node, event) if node.is_up else []

    def _send_reliable(self, node: Node, peer: NodeId, payload: bytes) -> None:
        """Deliver on a stream: late where datagrams are lost, and answered on the same stream."""
        node.bytes_sent += len(payload)
        if peer not in node.links or not self._is_open(node.me.node, peer):
            return
        event = ReliableReceived(node.as_peer(), payload)

        def arrive() -> None:
            for effect in self._deliver(peer, event):
                if isinstance(effect, Reply):
                    self._send_reliable(self.nodes[peer], node.me.node, effect.payload)

        self._at(self.now + self._delay() * (1 + 3 * self.loss), arrive)

    def _delay(self) -> float:
        return self.delay_s * (1 + self._dice.random())

    def _dial(self, node: Node, peer: NodeId) -> None:
        """Connect, or try again later for as long as the node wants it."""
        if not node.is_up or self.nodes[node.me.node] is not node or peer not in node.kept:
            return
        other = self.nodes.get(peer)
        if other is not None and node.links.get(peer) == other.me.boot:
            return
        if other is not None and self._is_open(node.me.node, peer):
            self._link(node, other)
        else:
            self._at(self.now + REDIAL_S, lambda: self._dial(node, peer))

    def _link(self, one: Node, other: Node) -> None:
        for here, there in ((one, other), (other, one)):
            here.links[there.me.node] = there.me.boot
        for here, there in ((one, other), (other, one)):
            self._handle(here, Connected(there.as_peer()))

    def _unlink(self, one: NodeId, other: NodeId, reason: str) -> None:
        for here, there in ((one, other), (other, one)):
            node = self.nodes.get(here)
            if node is not None and node.links.pop(there, None) is not None and node.is_up:
                self._handle(node, Disconnected(there, reason, True))
                self._at(self.now + REDIAL_S, partial(self._dial, node, there))
