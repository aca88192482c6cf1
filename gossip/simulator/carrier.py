"""Performs what link tables decide: dials, connections, and what travels on them.

Stands where `transport.quic` and the switchboard stand in an agent. A handshake takes two round trips and may
fail; an end whose packets stay unanswered for long gives its connection up, as `transport.quic` does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gossip.event import Connected, Disconnected, Event, Received, ReliableReceived
from gossip.simulator.agenda import Action, Agenda
from gossip.simulator.host import Dialling, Host, OnReply, Process, Wire, WireEnd
from gossip.simulator.liar import Liar
from gossip.simulator.network import Network
from transport.interface import Address, LinkChanged, LinkState, NodeId
from transport.link_effect import AskToDial, Close, ConnectionId, Dial, Effect, Probe, Retire, Slot, StopDialling

HANDSHAKE_S = 5.0
CHECK_S = 0.5
KEEPALIVE_S = 10.0
EXCHANGE_S = 10.0
MAX_EXCHANGES = 64
"""Of one process at once, as the runner allows."""

TRIES_BETWEEN_CHECKS = 3
"""How often QUIC sends something anew in `CHECK_S`, or more: each may be what gets through."""


class Receive(Protocol):
    """Takes a message that came to `process` on a stream with `far`. on_reply: answers on it, while that is open."""

    def __call__(self, process: Process, far: Process, payload: bytes, on_reply: OnReply | None) -> object: ...


class World(Protocol):
    """Whom the carrier serves."""

    agenda: Agenda
    network: Network

    def at_address(self, address: Address) -> Host | None: ...

    def handle(self, process: Process, event: Event, on_reply: OnReply | None = None) -> None: ...

    def arrive(self, process: Process, action: Action) -> None: ...


class Carrier:
    """Connections of every process. silence_s: after how long without an answer an end gives one up."""

    def __init__(self, world: World, dice: random.Random, silence_s: float) -> None:
        self._world = world
        self._agenda = world.agenda
        self._network = world.network
        self._dice = dice
        self._silence_s = silence_s
        self._last_number = 0
        self.dials = 0
        self.liars: dict[NodeId, Liar] = {}

    # -- for the world

    def perform(self, process: Process, effects: list[Effect]) -> None:
        """Do what the link table of `process`, which has changed, wants, and wake it when it wants to be."""
        process.routes.clear()
        for effect in effects:
            match effect:
                case LinkChanged():
                    self._announce(process, effect)
                case Dial(node, addresses, slot):
                    self._dial(process, node, addresses, slot)
                case StopDialling(node, slot):
                    process.dials.pop((node, slot)).is_over = True
                case Close(number, reason):
                    self._close(process.wires[number], reason)
                case Retire(number, _):
                    self._retire(process.wires[number])
                case Probe(number):
                    self._expect_answer(process.wires[number])
                case AskToDial(number):
                    self._ask_to_dial(process.wires[number])
        self.plan_wake(process)

    def plan_wake(self, process: Process) -> None:
        """Have the link table looked after in time."""
        due = process.links.next_wake()
        if due is not None and due < process.wake_at:
            process.wake_at = due = max(due, self._agenda.now)
            self._agenda.at(due, partial(self._wake, process, due))

    def send_datagram(self, process: Process, node: NodeId, payload: bytes) -> None:
        """Send and do not care."""
        if self.liars and process.node in self.liars:
            payload = self.liars[process.node].datagram(payload)
        end = process.routes.get(node) or self._route(process, node)
        if end is None:
            return
        far = end.far
        copies = self._network.arrivals(process.node, node)
        if far is not None:
            for delay_s in copies:
                self._agenda.after(delay_s, partial(self._datagram_arrives, far, payload))
        if not copies or far is None or not self._is_answering(far):
            self._expect_answer(end)
        else:
            end.unanswered_since = None

    def _route(self, process: Process, node: NodeId) -> WireEnd | None:
        number = process.links.connection(node)
        if number is None:
            return None
        end = process.routes[node] = process.wires[number]
        return end

    def exchange(self, process: Process, node: NodeId, payload: bytes) -> None:
        """Say something on a `gossip/1` stream, and hear what is answered."""
        if process.exchanges < MAX_EXCHANGES:
            self.ask(process, node, payload, self._take_gossip, EXCHANGE_S)

    def ask(self, process: Process, node: NodeId, payload: bytes, receive: Receive, deadline_s: float) -> bool:
        """Say something on a stream of its own; `receive` is called with what arrives, at either end.

        False when there is no connection to open it on.
        """
        number = process.links.connection(node)
        if number is None or process.links.state(node) is not LinkState.CONNECTED:
            return False
        Exchange(self, process.wires[number], self._agenda.now + deadline_s, receive).begin(payload)
        return True

    def closed_with(self, process: Process) -> None:
        """A process that ends in good order closes its connections."""
        for end in list(process.wires.values()):
            self._close(end, "closed by peer")

    def vanished(self, host: Host) -> None:
        """Whoever has a connection to this host will find out when it next asks for a sign of life."""
        if host.process is not None:
            for end in host.process.wires.values():
                if end.far is not None:
                    self._agenda.after(KEEPALIVE_S * self._dice.random(), partial(self._keep_alive, end.far))

    def _take_gossip(self, process: Process, far: Process, payload: bytes, on_reply: OnReply | None) -> None:
        self._world.handle(process, ReliableReceived(far.as_peer, payload), on_reply)

    # -- dialling

    def _dial(self, process: Process, node: NodeId, addresses: tuple[Address, ...], slot: Slot) -> None:
        self.dials += 1
        dialling = process.dials[node, slot] = Dialling()
        failing = partial(self._fail_dial, process, node, slot, dialling)
        self._agenda.after(HANDSHAKE_S, failing)
        hosts = [host for address in addresses if (host := self._world.at_address(address)) is not None]
        target = next((host for host in hosts if host.node == node), None)
        if target is None:
            self._agenda.after(2 * self._network.delay_s(), failing)
            return
        wait_s = self._network.delay_s() + self._network.delay_s()
        self._agenda.after(wait_s, partial(self._reach, process, target, slot, dialling, 0))

    def _reach(self, process: Process, target: Host, slot: Slot, dialling: Dialling, attempt: int) -> None:
        """The dialler's half of the handshake on its way to the other end, again and again until time is up."""
        if dialling.is_over or not process.is_running:
            return
        answerer = target.process
        if answerer is None or self._loses_a_round(process.node, target.node) or process.host.is_paused:
            again = partial(self._reach, process, target, slot, dialling, attempt + 1)
            self._agenda.after(self._network.retry_s(attempt), again)
            return
        self._world.arrive(answerer, partial(self._answer, process, answerer, slot, dialling))

    def _answer(self, process: Process, answerer: Process, slot: Slot, dialling: Dialling) -> None:
        if dialling.is_over or not process.is_running:
            return
        wire = Wire(slot)
        end = self._new_end(answerer, wire)
        answerer.wires[end.number] = end
        # The answering end comes up first, the dialling one when it has heard of that.
        end.far = dialler = self._new_end(process, wire)
        dialler.far, dialler.is_open = end, False
        now, host = self._agenda.now, process.host
        self._agenda.after(self._network.delay_s(), partial(self._come_home, dialler, end, dialling, 0))
        self.perform(answerer, answerer.links.connected(end.number, process.as_peer, host.address, False, now, slot))

    def _come_home(self, here: WireEnd, there: WireEnd, dialling: Dialling, attempt: int) -> None:
        """The last message of the handshake on its way to the dialler, from the end that answered."""
        if not here.process.is_running:
            return
        if dialling.is_over:
            self._close_far(here, "closed by peer")
            return
        if self._network.loses(there.process.node, here.process.node):
            again = partial(self._come_home, here, there, dialling, attempt + 1)
            self._agenda.after(self._network.retry_s(attempt), again)
            return
        self._world.arrive(here.process, partial(self._finish_dial, here, there, dialling))

    def _finish_dial(self, here: WireEnd, there: WireEnd, dialling: Dialling) -> None:
        if dialling.is_over:
            self._close_far(here, "closed by peer")
            return
        dialling.is_over = True
        process, peer, slot = here.process, there.process, here.wire.slot
        del process.dials[peer.node, slot]
        here.is_open = True
        process.wires[here.number] = here
        if not there.is_open:
            self._expect_answer(here)
        now = self._agenda.now
        self.perform(process, process.links.connected(here.number, peer.as_peer, peer.host.address, True, now, slot))

    def _fail_dial(self, process: Process, node: NodeId, slot: Slot, dialling: Dialling) -> None:
        if not dialling.is_over:
            self._world.arrive(process, partial(self._tell_failed, process, node, slot, dialling))

    def _tell_failed(self, process: Process, node: NodeId, slot: Slot, dialling: Dialling) -> None:
        if not dialling.is_over:
            dialling.is_over = True
            del process.dials[node, slot]
            self.perform(process, process.links.dial_failed(node, self._agenda.now, slot))

    def _ask_to_dial(self, end: WireEnd) -> None:
        far = end.far
        if far is not None and not self._network.loses(end.process.node, far.process.node):
            asked = partial(self._take_question, far, end.process.node)
            self._agenda.after(self._network.delay_s(), partial(self._arrive, far, asked))

    def _take_question(self, end: WireEnd, node: NodeId) -> None:
        self.perform(end.process, end.process.links.asked_to_dial(node, self._agenda.now))

    def _new_end(self, process: Process, wire: Wire) -> WireEnd:
        self._last_number += 1
        return WireEnd(process, ConnectionId(self._last_number), wire)

    # -- the ends of connections

    def _close(self, end: WireEnd, reason: str) -> None:
        self._release(end)
        self._close_far(end, reason)

    def _release(self, end: WireEnd) -> None:
        end.is_open = False
        end.process.wires.pop(end.number, None)

    def _close_far(self, end: WireEnd, reason: str) -> None:
        far = end.far
        if far is not None and far.is_open and not self._network.loses(end.process.node, far.process.node):
            self._agenda.after(self._network.delay_s(), partial(self._arrive, far, partial(self._break, far, reason)))
        elif far is not None and far.is_open:
            self._agenda.after(KEEPALIVE_S * self._dice.random(), partial(self._keep_alive, far))

    def _retire(self, end: WireEnd) -> None:
        """Let it go once nothing is under way on it; what still arrives is still heard."""
        end.is_retired = True
        self._agenda.after(CHECK_S, partial(self._end_retired, end))

    def _end_retired(self, end: WireEnd) -> None:
        if not end.is_open or not end.process.is_running:
            return
        if end.wire.exchanges:
            self._agenda.after(CHECK_S, partial(self._end_retired, end))
        else:
            self._close(end, "retired")

    def _break(self, end: WireEnd, reason: str) -> None:
        """A connection ended without the doing of this end."""
        if not end.is_open or not end.process.is_running:
            return
        self._release(end)
        if not end.is_retired and end.far is not None:
            process, now = end.process, self._agenda.now
            self.perform(process, process.links.disconnected(end.far.process.node, end.number, reason, now))

    # -- signs of life

    def _is_answering(self, end: WireEnd) -> bool:
        """Whether the other side of what was just sent will say so."""
        process = end.process
        if not end.is_open or not process.is_running or process.host.is_paused:
            return False
        far = end.far
        return far is not None and self._network.are_connected(process.node, far.process.node)

    def _keep_alive(self, end: WireEnd) -> None:
        if end.is_open and end.process.is_running:
            self._expect_answer(end)

    def _expect_answer(self, end: WireEnd) -> None:
        if end.unanswered_since is None and self._silence_s < float("inf"):
            end.unanswered_since = self._agenda.now
            self._agenda.after(CHECK_S, partial(self._check, end))

    def _check(self, end: WireEnd) -> None:
        """Whether anything has been answered since; if not for too long, the connection is gone."""
        process = end.process
        if not end.is_open or not process.is_running or end.unanswered_since is None:
            return
        far = end.far
        if process.host.is_paused:
            self._agenda.after(CHECK_S, partial(self._check, end))
        elif far is not None and self._is_answering(far) and self._got_through(end, far):
            end.unanswered_since = None
            if far.process.is_running:
                self.perform(process, process.links.answered(far.process.node, end.number))
        elif self._agenda.now - end.unanswered_since >= self._silence_s:
            self._break(end, "no sign of life")
        else:
            self._agenda.after(CHECK_S, partial(self._check, end))

    def _got_through(self, end: WireEnd, far: WireEnd) -> bool:
        here, there = end.process.node, far.process.node
        return any(not self._loses_a_round(here, there) for _ in range(TRIES_BETWEEN_CHECKS))

    def _loses_a_round(self, here: NodeId, there: NodeId) -> bool:
        return self._network.loses(here, there) or self._network.loses(there, here)

    # -- what arrives

    def _arrive(self, end: WireEnd, action: Action) -> None:
        if end.is_open and end.process.is_running:
            self._world.arrive(end.process, action)

    def _datagram_arrives(self, end: WireEnd, payload: bytes) -> None:
        """As `_arrive`, in fewer steps where nothing is late: nearly all that happens is this."""
        host = end.process.host
        if host.is_paused or host.lag_s:
            self._arrive(end, partial(self._take_datagram, end, payload))
        elif end.process.is_running:
            self._take_datagram(end, payload)

    def _take_datagram(self, end: WireEnd, payload: bytes) -> None:
        if end.is_open and end.far is not None:
            end.unanswered_since = None
            self._world.handle(end.process, Received(end.far.process.node, payload))

    def _announce(self, process: Process, change: LinkChanged) -> None:
        if change.state is LinkState.CONNECTED and change.peer is not None:
            self._world.handle(process, Connected(change.peer))
        elif change.state is not LinkState.CONNECTED:
            self._world.handle(process, Disconnected(change.node, change.reason, change.state is LinkState.LOST))

    def _wake(self, process: Process, due: float) -> None:
        if not process.is_running or process.wake_at != due:
            return
        process.wake_at = float("inf")
        if process.host.is_paused:
            return
        self.perform(process, process.links.tick(self._agenda.now))


class Exchange:
    """One stream: what the opener says, the answers, and what the opener says to those."""

    def __init__(self, carrier: Carrier, opener: WireEnd, ends_at: float, receive: Receive) -> None:
        self._receive = receive
        self._carrier = carrier
        self._opener = opener
        self._ends_at = ends_at
        self._under_way = 0
        self._due: dict[bool, float] = {True: 0.0, False: 0.0}
        self._was_answered = False
        self._is_over = False

    def begin(self, payload: bytes) -> None:
        """Open it, count it, and say the first message."""
        self._opener.process.exchanges += 1
        self._opener.wire.exchanges += 1
        self._carrier._agenda.at(self._ends_at, self._finish)
        self._carry(payload, to_opener=False)

    def _carry(self, payload: bytes, *, to_opener: bool) -> None:
        source = self._opener.far if to_opener else self._opener
        if source is not None and source.process.node in self._carrier.liars:
            payload = self._carrier.liars[source.process.node].message(payload)
        self._under_way += 1
        self._try(payload, 0, to_opener)

    def _try(self, payload: bytes, attempt: int, to_opener: bool) -> None:
        carrier = self._carrier
        far = self._opener.far
        source, target = (far, self._opener) if to_opener else (self._opener, far)
        now = carrier._agenda.now
        if source is None or target is None or not source.is_open or not source.process.is_running:
            return self._end()
        if now >= self._ends_at or not self._opener.is_open:
            return self._end()
        if not target.is_open or carrier._network.loses(source.process.node, target.process.node):
            carrier._expect_answer(source)
            wait_s = carrier._network.retry_s(attempt)
            carrier._agenda.after(wait_s, partial(self._try, payload, attempt + 1, to_opener))
            return None
        due = self._due[to_opener] = max(self._due[to_opener], now + carrier._network.delay_s())
        carrier._agenda.at(due, partial(self._arrive, target, payload, to_opener))
        return None

    def _arrive(self, target: WireEnd, payload: bytes, to_opener: bool) -> None:
        if not target.is_open or not target.process.is_running:
            self._end()
            return
        self._carrier._world.arrive(target.process, partial(self._take, target, payload, to_opener))

    def _take(self, target: WireEnd, payload: bytes, to_opener: bool) -> None:
        far = target.far
        if target.is_open and far is not None:
            target.unanswered_since = None
            on_reply: Callable[[bytes], object] | None = None
            if to_opener or not self._was_answered:
                on_reply = partial(self._reply, not to_opener)
            self._was_answered = self._was_answered or not to_opener
            self._receive(target.process, far.process, payload, on_reply)
        self._end()

    def _reply(self, to_opener: bool, payload: bytes) -> None:
        self._carry(payload, to_opener=to_opener)

    def _end(self) -> None:
        """One message is done with; with the last, the exchange counts no more, though a late answer may come."""
        self._under_way -= 1
        if self._under_way == 0:
            self._finish()

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._opener.process.exchanges -= 1
            self._opener.wire.exchanges -= 1
