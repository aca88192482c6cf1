"""Decides about links: when to dial whom, which of two connections stays, and when a peer counts as lost.

Events and the time go in, effects come out; `switchboard` performs them for every carrier. Connections are
numbers here. Timers are asked for through `next_wake`, dice are handed in. One connection per pair for now: a
second one for bulk data would be another slot of `_Link`, under the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from transport.interface import Address, LinkChanged, LinkState, NodeId, Peer, Role

ConnectionId = NewType("ConnectionId", int)

HIGHER_ID_WAITS_S = 5.0
RECONNECTING_S = 10.0
MAX_DIALS = 16
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STEADY_AFTER_S = 60.0
"""A connection that stood this long starts the back-off afresh when it breaks."""

SIMULTANEOUS_S = 6.0
"""Two connections that came up within this time were dialled by both at once (a dial takes at most 5 s). Later
than that, a peer that dials anew has lost the old one, whatever we think of it."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to `node`; report `connected`, or `dial_failed`."""

    node: NodeId
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class StopDialling:
    """Give up the dial in progress to `node`; report nothing."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Close:
    """Close this connection at once; its streams fail. `disconnected` need not be reported."""

    connection: ConnectionId
    reason: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Open nothing new on this connection and close it when its streams have ended."""

    connection: ConnectionId
    reason: str


Effect = Dial | StopDialling | Close | Retire | LinkChanged


@dataclass(slots=True)
class _Live:
    """The connection that carries a link now."""

    number: ConnectionId
    peer: Peer
    is_dialled_here: bool
    since: float


@dataclass(slots=True)
class _Link:
    """What is known of one peer's link. times are on the caller's monotonic clock."""

    node: NodeId
    state: LinkState
    is_kept: bool
    addresses: tuple[Address, ...] = ()
    live: _Live | None = None
    peer: Peer | None = None
    address: Address | None = None
    is_dialling: bool = False
    failures: int = 0
    dial_at: float | None = None
    lost_at: float | None = None


class LinkTable:
    """Every peer that we keep or that is connected.

    uniform: `random.uniform` of a seeded generator, for full-jitter back-off.
    """

    def __init__(self, node: NodeId, role: Role, uniform: Callable[[float, float], float]) -> None:
        self._node = node
        self._role = role
        self._uniform = uniform
        self._links: dict[NodeId, _Link] = {}

    # Reading

    def nodes(self) -> list[NodeId]:
        return sorted(self._links)

    def state(self, node: NodeId) -> LinkState | None:
        link = self._links.get(node)
        return link.state if link else None

    def peer(self, node: NodeId) -> Peer | None:
        link = self._links.get(node)
        return link.peer if link else None

    def address(self, node: NodeId) -> Address | None:
        link = self._links.get(node)
        return link.address if link else None

    def connection(self, node: NodeId) -> ConnectionId | None:
        """The connection to use for `node` now."""
        link = self._links.get(node)
        return link.live.number if link and link.live else None

    def next_wake(self) -> float | None:
        """When `tick` has something to do."""
        times = [link.lost_at for link in self._links.values() if link.lost_at is not None]
        if self._dials_in_progress() < MAX_DIALS:
            times += [link.dial_at for link in self._links.values() if link.dial_at is not None]
        return min(times, default=None)

    # Wishes

    def keep(self, node: NodeId, addresses: tuple[Address, ...], now: float) -> list[Effect]:
        """Hold a link to `node`. Called again, it replaces the addresses."""
        if node == self._node:
            return []
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = _Link(node, LinkState.RECONNECTING, is_kept=True, lost_at=now + RECONNECTING_S)
        link.is_kept = True
        link.addresses = addresses
        if link.live is None and link.dial_at is None:
            self._plan_dial(link, now)
        return self.tick(now)

    def drop(self, node: NodeId, reason: str) -> list[Effect]:
        """Forget `node`, closing what there is."""
        link = self._links.pop(node, None)
        if link is None:
            return []
        effects: list[Effect] = []
        if link.is_dialling:
            effects.append(StopDialling(node))
        if link.live is not None:
            effects.append(Close(link.live.number, reason))
        if link.state is not LinkState.LOST:
            effects.append(LinkChanged(node, LinkState.LOST, link.peer, link.address, reason))
        return effects

    # What happened

    def connected(
        self, number: ConnectionId, peer: Peer, address: Address, is_dialled_here: bool, now: float
    ) -> list[Effect]:
        """A connection to `peer` was admitted at both ends."""
        arrival = _Live(number, peer, is_dialled_here, now)
        link = self._links.get(peer.node)
        if link is None:
            link = self._links[peer.node] = _Link(peer.node, LinkState.RECONNECTING, is_kept=False)
        effects: list[Effect] = []
        if link.is_dialling and (is_dialled_here or self._node > peer.node):
            # Its own dial has come home, or would lose against this connection.
            link.is_dialling = False
            if not is_dialled_here:
                effects.append(StopDialling(peer.node))
        loser = self._loser(link.live, arrival)
        if loser is not None:
            effects.append(loser)
            if loser.connection == number:
                return effects
        link.live = arrival
        link.peer, link.address = peer, address
        link.dial_at = link.lost_at = None
        if link.state is not LinkState.CONNECTED or isinstance(loser, Close):
            link.state = LinkState.CONNECTED
            reason = loser.reason if isinstance(loser, Close) else _who_dialled(is_dialled_here)
            effects.append(LinkChanged(peer.node, LinkState.CONNECTED, peer, address, reason))
        return effects

    def disconnected(self, node: NodeId, number: ConnectionId, reason: str, now: float) -> list[Effect]:
        """A connection ended on its own or by the peer."""
        link = self._links.get(node)
        if link is None or link.live is None or link.live.number != number:
            return []
        link.failures = 0 if now - link.live.since >= STEADY_AFTER_S else link.failures + 1
        link.live = None
        link.state = LinkState.RECONNECTING
        link.lost_at = now + RECONNECTING_S
        self._plan_dial(link, now)
        changed = LinkChanged(node, LinkState.RECONNECTING, link.peer, link.address, reason)
        return [changed, *self.tick(now)]

    def dial_failed(self, node: NodeId, now: float) -> list[Effect]:
        link = self._links.get(node)
        if link is None or not link.is_dialling:
            return []
        link.is_dialling = False
        link.failures += 1
        if link.live is None and link.is_kept:
            link.dial_at = now + self._backoff_s(link.failures)
        return self.tick(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due by `now`."""
        effects: list[Effect] = []
        for link in [link for link in self._links.values() if link.lost_at is not None and link.lost_at <= now]:
            effects.append(self._lose(link))
        due = [link for link in self._links.values() if link.dial_at is not None and link.dial_at <= now]
        due.sort(key=lambda link: (link.dial_at or 0.0, link.node))
        for link in due[: MAX_DIALS - self._dials_in_progress()]:
            link.dial_at = None
            link.is_dialling = True
            effects.append(Dial(link.node, link.addresses))
        return effects

    # Rules

    def _plan_dial(self, link: _Link, now: float) -> None:
        """When to dial a link that has none: the lower id at once, the higher later, members never a client."""
        if not link.is_kept or not link.addresses or link.is_dialling:
            return
        if link.peer is not None and link.peer.role is Role.CLIENT and self._role is not Role.CLIENT:
            return
        dials_first = self._role is Role.CLIENT or self._node < link.node
        wait_s = 0.0 if dials_first else HIGHER_ID_WAITS_S
        if link.peer is not None or link.failures:
            wait_s += self._backoff_s(link.failures)
        link.dial_at = now + wait_s

    def _backoff_s(self, failures: int) -> float:
        """Full jitter: uniform below a ceiling that doubles with every failure."""
        return self._uniform(0.0, min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 16)))

    def _loser(self, held: _Live | None, arrival: _Live) -> Close | Retire | None:
        """Which of two connections to the same peer goes, if there are two."""
        if held is None:
            return None
        if arrival.peer.boot != held.peer.boot:
            if arrival.peer.boot > held.peer.boot:
                return Close(held.number, "peer restarted")
            return Close(arrival.number, "peer has started again since")
        if arrival.is_dialled_here == held.is_dialled_here or arrival.since - held.since > SIMULTANEOUS_S:
            return Retire(held.number, "replaced by a newer connection")
        lower_is_here = self._node < arrival.peer.node
        if arrival.is_dialled_here == lower_is_here:
            return Retire(held.number, "both dialled: the lower id's connection stays")
        return Retire(arrival.number, "both dialled: the lower id's connection stays")

    def _lose(self, link: _Link) -> Effect:
        link.lost_at = None
        link.state = LinkState.LOST
        if not link.is_kept:
            del self._links[link.node]
        reason = f"no connection for {RECONNECTING_S:.0f} s"
        return LinkChanged(link.node, LinkState.LOST, link.peer, link.address, reason)

    def _dials_in_progress(self) -> int:
        return sum(link.is_dialling for link in self._links.values())


def _who_dialled(is_dialled_here: bool) -> str:
    return "dialled" if is_dialled_here else "peer dialled"
