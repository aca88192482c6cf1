"""Decides about links: when to dial whom, which of two connections stays, and when a peer counts as lost.

Events and the time go in, effects come out; `switchboard` performs them for every carrier. Connections are
numbers here. Timers are asked for through `next_wake`, dice are handed in.

A link has two slots. Its control connection is always wanted, and the link's state is that connection's. Its data
connection is dialled when somebody needs it, always by the end that dialled the control connection: that one is
known to reach the other, and where there is a NAT between them its address may change under way (RFC 9000 §9).
The same rules say in each slot which of two connections stays.
"""

from __future__ import annotations

from collections.abc import Callable

from transport.interface import Address, LinkChanged, LinkState, NodeId, Peer, Role
from transport.link_effect import (
    AskToDial,
    Close,
    ConnectionId,
    Dial,
    Effect,
    Probe,
    Retire,
    Slot,
    StopDialling,
)
from transport.link_state import Line, Live, PeerLink

HIGHER_ID_WAITS_S = 5.0
RECONNECTING_S = 10.0
MAX_DIALS = 16
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
OTHER_END_WAITS_S = 2.0
MAX_HURRIED_WAIT_S = 1.0
"""While a link that was up is RECONNECTING, the end that had dialled dials at once, for it is known to get through;
the other after `OTHER_END_WAITS_S`. However often it broke before, neither waits longer between its dials than this:
what a tunnel carries waits for at most `RECONNECTING_S`."""

STEADY_AFTER_S = 60.0
"""A connection that stood this long starts the back-off afresh when it breaks."""

ANSWER_S = 0.5
"""How long a doubted peer has to answer before it is dialled anew."""

SIMULTANEOUS_S = 6.0
"""Two connections that came up within this time were dialled by both at once (a dial takes at most 5 s). Later
than that, a peer that dials anew has lost the old one, whatever we think of it."""


class LinkTable:
    """Every peer that we keep or that is connected.

    uniform: `random.uniform` of a seeded generator, for full-jitter back-off.
    """

    def __init__(self, node: NodeId, role: Role, uniform: Callable[[float, float], float]) -> None:
        self._node = node
        self._role = role
        self._uniform = uniform
        self._links: dict[NodeId, PeerLink] = {}
        self._dials_in_progress = 0

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

    def connection(self, node: NodeId, slot: Slot = Slot.CONTROL) -> ConnectionId | None:
        """The connection that serves `slot` now."""
        link = self._links.get(node)
        live = link.line(slot).live if link else None
        return live.number if live else None

    def next_wake(self) -> float | None:
        """When `tick` has something to do."""
        may_dial = self._dials_in_progress < MAX_DIALS
        earliest: float | None = None
        # Plain loops here and in `tick`: both run at every event, over every link.
        for link in self._links.values():
            times = (link.lost_at, link.control.dial_at, link.data.dial_at) if may_dial else (link.lost_at,)
            for time in times:
                if time is not None and (earliest is None or time < earliest):
                    earliest = time
        return earliest

    # Wishes

    def keep(self, node: NodeId, addresses: tuple[Address, ...], now: float) -> list[Effect]:
        """Hold a link to `node`. Called again, it replaces the addresses."""
        if node == self._node:
            return []
        link = self._links.get(node) or self._meet(node, now)
        link.is_kept = True
        link.addresses = addresses
        if link.control.live is None and link.control.dial_at is None:
            self._plan_dial(link, now)
        return self.tick(now)

    def drop(self, node: NodeId, reason: str) -> list[Effect]:
        """Forget `node`, closing what there is."""
        link = self._links.pop(node, None)
        if link is None:
            return []
        effects: list[Effect] = []
        for line in link.lines:
            effects += self._stop_dialling(link, line)
        effects += self._close_all(link, reason)
        if link.state is not LinkState.LOST:
            effects.append(LinkChanged(node, LinkState.LOST, link.peer, link.address, reason))
        return effects

    def want_data(self, node: NodeId, now: float) -> list[Effect]:
        """Somebody needs a data connection; does nothing when there is one, or the link is down."""
        link = self._links.get(node)
        if link is None or link.state is not LinkState.CONNECTED or link.data.live is not None:
            return []
        assert link.control.live is not None
        if not link.control.live.is_dialled_here:
            return [AskToDial(link.control.live.number)]
        return self._dial_data(link, now)

    def doubt(self, node: NodeId, reason: str, now: float) -> list[Effect]:
        """Somebody says that `node` is dead though its link is up: no new work for it until it shows up.

        Work in progress goes on, and ends only when the link is lost.
        """
        link = self._links.get(node)
        if link is None or link.state is not LinkState.CONNECTED:
            return []
        assert link.control.live is not None
        probe = Probe(link.control.live.number)
        effects = self._go_down(link, reason, now)
        self._plan_dial(link, now + ANSWER_S)
        return [*effects, probe]

    # What happened

    def connected(
        self,
        number: ConnectionId,
        peer: Peer,
        address: Address,
        is_dialled_here: bool,
        now: float,
        slot: Slot = Slot.CONTROL,
    ) -> list[Effect]:
        """A connection to `peer` was admitted at both ends."""
        arrival = Live(number, peer, is_dialled_here, now)
        link = self._links.get(peer.node) or self._meet(peer.node, now)
        line = link.line(slot)
        effects = self._spare_dial(link, line, is_dialled_here)
        if any(line.live is not None and line.live.peer.boot > peer.boot for line in link.lines):
            return [*effects, Close(number, "peer has started again since")]
        had_control = link.control.live is not None
        effects += self._close_older(link, peer.boot)
        is_restart = had_control and link.control.live is None
        loser = self._loser(line.live, arrival)
        if loser is not None:
            effects.append(loser)
        if loser is None or loser.connection != number:
            line.live, line.dial_at, line.was_dialled_here = arrival, None, is_dialled_here
            link.peer = peer
            link.address = address if slot is Slot.CONTROL else link.address
        if slot is Slot.CONTROL:
            reason = "peer restarted" if is_restart else _who_dialled(is_dialled_here)
            return effects + self._come_up(link, reason, is_restart)
        if is_restart:
            return effects + self._broken(link, "peer restarted", now)
        return effects + self._await_control(link, now)

    def disconnected(
        self, node: NodeId, number: ConnectionId, reason: str, now: float, was_silent: bool = False
    ) -> list[Effect]:
        """A connection ended on its own or by the peer. was_silent: for want of any sign of life."""
        link = self._links.get(node)
        line = link.line_of(number) if link else None
        if link is None or line is None or line.live is None:
            return []
        line.failures = 0 if now - line.live.since >= STEADY_AFTER_S else line.failures + 1
        line.live = None
        if line is link.control:
            return self._broken(link, reason, now)
        return self.doubt(node, reason, now) if was_silent else []

    def answered(self, node: NodeId, number: ConnectionId) -> list[Effect]:
        """A peer showed on this connection that it lives. News only if it was doubted."""
        link = self._links.get(node)
        if link is None or link.line_of(number) is not link.control:
            return []
        effects = self._come_up(link, "it still answers", False)
        if effects:
            link.control.dial_at = None
            effects += self._stop_dialling(link, link.control)
        return effects

    def idle(self, node: NodeId, number: ConnectionId) -> list[Effect]:
        """A data connection has carried nothing for long."""
        link = self._links.get(node)
        if link is None or link.line_of(number) is not link.data:
            return []
        link.data.live = None
        return [Retire(number, "idle")]

    def asked_to_dial(self, node: NodeId, now: float) -> list[Effect]:
        """The peer needs a data connection, and it is for us to dial it."""
        link = self._links.get(node)
        live = link.control.live if link else None
        if link is None or live is None or not live.is_dialled_here:
            return []
        return self.want_data(node, now)

    def dial_failed(self, node: NodeId, now: float, slot: Slot = Slot.CONTROL) -> list[Effect]:
        link = self._links.get(node)
        if link is None or not link.line(slot).is_dialling:
            return []
        line = link.line(slot)
        self._dial_is_over(line)
        line.failures += 1
        if line is link.control and link.is_kept and link.state is not LinkState.CONNECTED:
            line.dial_at = now + self._wait_s(link, line)
        return self.tick(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due by `now`."""
        effects: list[Effect] = []
        for link in [link for link in self._links.values() if link.lost_at is not None and link.lost_at <= now]:
            effects += self._lose(link, now)
        due: list[tuple[float, NodeId, PeerLink, Line]] = []
        for link in self._links.values():
            for line in (link.control, link.data):
                if line.dial_at is not None and line.dial_at <= now:
                    due.append((line.dial_at, link.node, link, line))
        due.sort(key=lambda entry: entry[:2])
        for _, node, link, line in due[: MAX_DIALS - self._dials_in_progress]:
            line.dial_at = None
            line.is_dialling = True
            self._dials_in_progress += 1
            in_hurry = line is link.control and link.is_in_hurry
            effects.append(Dial(node, self._where(link, line), line.slot, in_hurry))
        return effects

    # Dialling

    def _plan_dial(self, link: PeerLink, now: float) -> None:
        """When to dial a link that is down: one end at once, the other later, members never a client."""
        if not link.is_kept or not link.addresses or link.control.is_dialling:
            return
        if link.peer is not None and link.peer.role is Role.CLIENT and self._role is not Role.CLIENT:
            return
        wait_s = 0.0 if self._dials_first(link) else OTHER_END_WAITS_S if link.is_in_hurry else HIGHER_ID_WAITS_S
        if link.peer is not None or link.control.failures:
            wait_s += self._wait_s(link, link.control)
        planned = link.control.dial_at
        link.control.dial_at = now + wait_s if planned is None else min(planned, now + wait_s)

    def _dials_first(self, link: PeerLink) -> bool:
        if self._role is Role.CLIENT:
            return True
        return link.control.was_dialled_here is True if link.is_in_hurry else self._node < link.node

    def _dial_data(self, link: PeerLink, now: float) -> list[Effect]:
        """Also find out whether the peer is still there: who waits for the dial should not wait for longer."""
        if link.data.is_dialling or link.data.dial_at is not None or link.control.live is None:
            return []
        link.data.dial_at = now + (self._wait_s(link, link.data) if link.data.failures else 0.0)
        return [Probe(link.control.live.number), *self.tick(now)]

    def _where(self, link: PeerLink, line: Line) -> tuple[Address, ...]:
        """A data connection goes where the control connection went; who was lost a moment ago is looked for there."""
        if link.address is None or (line is link.control and not link.is_in_hurry):
            return link.addresses
        if line is link.data:
            return (link.address,)
        return (link.address, *(address for address in link.addresses if address != link.address))

    def _wait_s(self, link: PeerLink, line: Line) -> float:
        """Full jitter: uniform below a ceiling that doubles with every failure. Short where somebody waits."""
        is_awaited = line is link.data or link.is_in_hurry
        ceiling_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(line.failures, 16))
        return self._uniform(0.0, min(MAX_HURRIED_WAIT_S, ceiling_s) if is_awaited else ceiling_s)

    def _dial_is_over(self, line: Line) -> None:
        line.is_dialling = False
        self._dials_in_progress -= 1

    def _stop_dialling(self, link: PeerLink, line: Line) -> list[Effect]:
        if not line.is_dialling:
            return []
        self._dial_is_over(line)
        return [StopDialling(link.node, line.slot)]

    # Two connections

    def _spare_dial(self, link: PeerLink, line: Line, is_dialled_here: bool) -> list[Effect]:
        """End a dial that has come home, or whose connection would lose against the one that came."""
        if not line.is_dialling or not (is_dialled_here or self._node > link.node):
            return []
        stopping = self._stop_dialling(link, line)
        return [] if is_dialled_here else stopping

    def _close_older(self, link: PeerLink, boot: int) -> list[Effect]:
        """Close what a peer had before it started again."""
        effects: list[Effect] = []
        for line in link.lines:
            if line.live is not None and line.live.peer.boot < boot:
                effects.append(Close(line.live.number, "peer restarted"))
                line.live = None
        return effects

    def _loser(self, held: Live | None, arrival: Live) -> Retire | None:
        """Which of two connections in one slot goes, if there are two."""
        if held is None:
            return None
        if arrival.is_dialled_here == held.is_dialled_here or arrival.since - held.since > SIMULTANEOUS_S:
            return Retire(held.number, "replaced by a newer connection")
        lower_is_here = self._node < arrival.peer.node
        if arrival.is_dialled_here == lower_is_here:
            return Retire(held.number, "both dialled: the lower id's connection stays")
        return Retire(arrival.number, "both dialled: the lower id's connection stays")

    # States

    def _meet(self, node: NodeId, now: float) -> PeerLink:
        link = self._links[node] = PeerLink(node, LinkState.RECONNECTING, False, now + RECONNECTING_S)
        return link

    def _come_up(self, link: PeerLink, reason: str, is_restart: bool) -> list[Effect]:
        """The control connection is there, and its peer lives."""
        link.lost_at = None
        if link.state is LinkState.CONNECTED and not is_restart:
            return []
        link.state = LinkState.CONNECTED
        link.data.failures = 0  # what broke the data connection broke this one, and is over
        return [LinkChanged(link.node, LinkState.CONNECTED, link.peer, link.address, reason)]

    def _go_down(self, link: PeerLink, reason: str, now: float) -> list[Effect]:
        """Streams that the data connection carries go on; no new one is opened."""
        link.data.dial_at = None
        stopped = self._stop_dialling(link, link.data)
        if link.state is not LinkState.CONNECTED:
            return stopped  # doubted before it broke: the time runs already
        return [*stopped, *self._reconnect(link, reason, now)]

    def _await_control(self, link: PeerLink, now: float) -> list[Effect]:
        """A data connection came, perhaps before its control connection: keep it for as long as a broken link."""
        if link.state is not LinkState.LOST:
            return []
        return self._reconnect(link, "its data connection came first", now)

    def _reconnect(self, link: PeerLink, reason: str, now: float) -> list[Effect]:
        link.state = LinkState.RECONNECTING
        link.lost_at = now + RECONNECTING_S
        return [LinkChanged(link.node, LinkState.RECONNECTING, link.peer, link.address, reason)]

    def _broken(self, link: PeerLink, reason: str, now: float) -> list[Effect]:
        """The control connection is gone."""
        effects = self._go_down(link, reason, now)
        self._plan_dial(link, now)
        return effects + self.tick(now)

    def _lose(self, link: PeerLink, now: float) -> list[Effect]:
        link.lost_at = None
        link.state = LinkState.LOST
        reason = f"no connection for {RECONNECTING_S:.0f} s"
        effects = self._close_all(link, reason)
        effects += self._stop_dialling(link, link.data)
        if not link.is_kept:
            del self._links[link.node]
        elif link.control.dial_at is None:
            self._plan_dial(link, now)
        return [*effects, LinkChanged(link.node, LinkState.LOST, link.peer, link.address, reason)]

    def _close_all(self, link: PeerLink, reason: str) -> list[Effect]:
        effects: list[Effect] = []
        for line in link.lines:
            if line.live is not None:
                effects.append(Close(line.live.number, reason))
                line.live = None
        return effects


def _who_dialled(is_dialled_here: bool) -> str:
    return "dialled" if is_dialled_here else "peer dialled"
