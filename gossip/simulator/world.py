"""A whole mesh in one process: hosts, what runs on them, and the one clock that they share.

Performs the effects of engines as `gossip.runner` does in an agent; what link tables want is `carrier`'s work.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gossip.engine import Engine
from gossip.event import (
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
    Reply,
    Seed,
    SendDatagram,
    SendReliable,
    Tick,
)
from gossip.reading import Reading
from gossip.simulator.agenda import Action, Agenda
from gossip.simulator.carrier import Carrier
from gossip.simulator.host import NEVER, Disk, Host, OnReply, Process
from gossip.simulator.keys import UNIX_TIME, FakeKeys, Keys
from gossip.simulator.network import Conditions, Network
from gossip.simulator.trace import Trace
from gossip.timing import LAN, Timing
from gossip.view import NodeView, Status, View
from transport.interface import Address, NodeId, Role
from transport.link import LinkTable

START = 1000.0
QUIC_SILENCE_S = 4.0
"""As `transport.quic` has it."""


class Watcher(Protocol):
    """Told of everything that happens."""

    def handled(self, process: Process, event: Event, effects: Sequence[Effect]) -> None:
        """An engine took `event`, and its effects have been performed."""

    def started(self, process: Process) -> None:
        """A process began."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a world is made of. silence_s: when a dead connection ends and so gives a hint, infinite for never."""

    conditions: Conditions = field(default_factory=Conditions)
    timing: Timing = LAN
    silence_s: float = QUIC_SILENCE_S
    with_trace: bool = True


class World:
    """Hosts under one clock; everything random comes from `seed`."""

    def __init__(self, seed: int | str, settings: Settings, keys: Keys | None = None) -> None:
        self.seed = seed
        self.settings = settings
        self.dice = random.Random(f"world {seed}")
        self.agenda = Agenda(START)
        self.network = Network(settings.conditions, random.Random(f"network {seed}"))
        self.carrier = Carrier(self, random.Random(f"carrier {seed}"), settings.silence_s)
        self.keys = keys if keys is not None else FakeKeys()
        self.hosts: dict[NodeId, Host] = {}
        self.trace = Trace()
        self.watchers: list[Watcher] = []
        self.largest_datagram = 0
        self._addresses: dict[Address, Host] = {}
        self._reading = Reading()

    # -- hosts

    def add(self, name: str, role: Role = Role.MEMBER) -> Host:
        """A new machine, on which nothing runs yet."""
        me = self.keys.local(name, role, 1)
        host = Host(name, me.node, me.addresses[0], role)
        self.hosts[me.node] = host
        self._addresses[host.address] = host
        return host

    def start(self, host: Host, introducers: Sequence[Host] = ()) -> Process:
        """Start the agent of a host. It looks for whom its address book names, and for `introducers`."""
        assert host.process is None, f"{host.name} runs already"
        host.disk.boot += 1
        me = self.keys.local(host.name, host.role, host.disk.boot)
        dice = random.Random(f"{self.seed} {host.name} {host.disk.boot} {self.now}")
        verifier = self.keys.verifier(lambda: UNIX_TIME + self.now - START + host.wall_offset_s)
        engine = Engine(me, verifier, self.settings.timing, dice, self.now, self._reading)
        process = Process(host, me, engine, LinkTable(me.node, me.role, dice.uniform), self.now)
        host.process = process
        host.busy_until = 0.0
        self._say(host, f"starts with boot {me.boot}")
        for watcher in self.watchers:
            watcher.started(process)
        if host.role is not Role.CLIENT:
            self.handle(process, LocalUpdate("sys", host.name.encode()))
        for node, addresses in host.disk.book:
            self.handle(process, Seed(node, addresses))
        for other in introducers:
            self.handle(process, Seed(other.node, (other.address,)))
        self._plan_tick(process)
        return process

    def kill(self, host: Host) -> None:
        """Let the process of a host vanish without a word."""
        self._say(host, "is killed")
        self.carrier.vanished(host)
        self._end(host)

    def shut_down(self, host: Host) -> None:
        """Let a host leave: its last words are sent, then its connections close."""
        self._say(host, "leaves")
        process = host.running
        self.handle(process, Leave())
        process.has_left = True
        self.agenda.after(1.0, partial(self._close_down, process))

    def lose_disk(self, host: Host) -> None:
        """Nothing is left on the disk but the node's key."""
        self._say(host, "has lost its disk")
        host.disk = Disk()

    def pause(self, host: Host) -> None:
        """Stop a process as SIGSTOP does."""
        self._say(host, "stands still")
        self.carrier.vanished(host)
        host.is_paused = True
        host.paused_at = self.now

    def resume(self, host: Host) -> None:
        """Let it go on: it takes what has piled up, its timers are late."""
        if not host.is_paused:
            return
        self._say(host, "goes on")
        host.is_paused = False
        gap_s = self.now - host.paused_at
        host.paused_s += gap_s
        process = host.process
        if process is None:
            return
        for end in process.wires.values():
            if end.unanswered_since is not None:
                end.unanswered_since += gap_s
        waiting = list(host.waiting)
        host.waiting.clear()
        for _, action in waiting:
            self.agenda.at(self.now, partial(self.arrive, process, action))
        process.tick_at = process.wake_at = NEVER
        self._plan_tick(process)
        self.carrier.plan_wake(process)

    def tell(self, host: Host, event: Event) -> None:
        """Something happens at a host itself."""
        self.handle(host.running, event)

    # -- reading

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.agenda.now

    def at_address(self, address: Address) -> Host | None:
        """The host that answers there."""
        return self._addresses.get(address)

    def running(self) -> list[Process]:
        """Every process there is, the paused among them."""
        return [host.process for host in self.hosts.values() if host.process is not None]

    def can_ask(self, one: Host, other: Host) -> bool:
        """Whether somebody at one host would get an answer from the other now."""
        is_there = other.process is not None and not other.is_paused
        return is_there and self.network.are_connected(one.node, other.node)

    def view(self, host: Host) -> View:
        """The mesh as a host sees it now."""
        return host.running.engine.view(self.now, {})

    def seen(self, by: Host, whom: Host) -> NodeView | None:
        """One host as another sees it."""
        return self.view(by).get(whom.node)

    def status(self, by: Host, whom: Host) -> Status | None:
        """What one host thinks of another; None when it does not know it."""
        entry = self.seen(by, whom)
        return entry.status if entry is not None else None

    def unix_time(self, host: Host) -> float:
        """What the wall clock of a host shows."""
        return UNIX_TIME + self.now - START + host.wall_offset_s

    # -- time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.agenda.run_until(self.now + seconds)

    def run_until(self, condition: Callable[[], bool], limit_s: float, step_s: float = 0.05) -> float | None:
        """Let time pass until `condition` holds; how long that took, or None when `limit_s` was not enough."""
        start = self.now
        while not condition():
            if self.now - start >= limit_s:
                return None
            self.run(step_s)
        return self.now - start

    # -- for the carrier, and for what stands on top of engines

    def handle(self, process: Process, event: Event, on_reply: OnReply | None = None) -> None:
        """Give `event` to an engine, after whatever it is busy with. on_reply: takes what it answers on the stream."""
        if process.is_handling or not process.is_running:
            process.inbox.append((event, on_reply))
            return
        process.is_handling = True
        self._handle(process, event, on_reply)
        while process.inbox and process.is_running:
            self._handle(process, *process.inbox.popleft())
        process.is_handling = False
        self._plan_tick(process)

    def arrive(self, process: Process, action: Action) -> None:
        """Something comes in from the network: now, late on a slow host, or not before a paused one goes on."""
        host = process.host
        if not process.is_running:
            return
        if host.is_paused:
            host.hold(process, action)
        elif host.lag_s:
            host.busy_until = max(host.busy_until, self.now + host.lag_s)
            self.agenda.at(host.busy_until, partial(self._arrive_late, process, action))
        else:
            action()

    def _arrive_late(self, process: Process, action: Action) -> None:
        if not process.is_running:
            return
        if process.host.is_paused:
            process.host.hold(process, action)
        else:
            action()

    def _handle(self, process: Process, event: Event, on_reply: OnReply | None) -> None:
        effects = process.engine.handle(self.now, event)
        if self.settings.with_trace:
            self.trace.note(self.now, process.host.name, event, effects)
        for effect in effects:
            if type(effect) is SendDatagram:
                # Nearly all that engines want.
                self._send_datagram(process, effect)
            else:
                self._perform(process, effect, on_reply)
        for watcher in self.watchers:
            watcher.handled(process, event, effects)

    def _perform(self, process: Process, effect: Effect, on_reply: OnReply | None) -> None:
        host = process.host
        match effect:
            case SendDatagram():
                self._send_datagram(process, effect)
            case SendReliable(peer, payload):
                self._count(host, payload)
                self.carrier.exchange(process, peer, payload)
            case Reply(payload):
                if on_reply is not None:
                    self._count(host, payload)
                    on_reply(payload)
            case Keep(peer, addresses):
                self.carrier.perform(process, process.links.keep(peer, addresses, self.now))
            case Drop(peer, reason):
                self.carrier.perform(process, process.links.drop(peer, reason))
            case Doubt(peer, reason):
                self.carrier.perform(process, process.links.doubt(peer, reason, self.now))
            case Persist(book):
                host.disk.book = book
            case RaiseBoot(boot):
                host.disk.boot = max(host.disk.boot, boot)
            case Notify():
                pass

    def _send_datagram(self, process: Process, effect: SendDatagram) -> None:
        payload = effect.payload
        self._count(process.host, payload)
        if len(payload) > self.largest_datagram:
            self.largest_datagram = len(payload)
        self.carrier.send_datagram(process, effect.peer, payload)

    def _count(self, host: Host, payload: bytes) -> None:
        host.bytes_sent += len(payload)
        host.packets_sent += 1

    def _plan_tick(self, process: Process) -> None:
        due = process.engine.next_deadline
        if due < process.tick_at and (due := max(self.now, due)) < process.tick_at:
            process.tick_at = due
            self.agenda.at(due + process.host.lag_s, partial(self._tick, process, due))

    def _tick(self, process: Process, due: float) -> None:
        if not process.is_running or process.tick_at != due or process.host.is_paused:
            return
        process.tick_at = NEVER
        if process.engine.next_deadline <= self.now:
            self.handle(process, Tick())
        else:
            self._plan_tick(process)

    def _close_down(self, process: Process) -> None:
        if process.is_running:
            self.carrier.closed_with(process)
            self._end(process.host)

    def _end(self, host: Host) -> None:
        host.running.is_running = False
        host.process = None
        host.is_paused = False
        host.waiting.clear()

    def _say(self, host: Host, what: str) -> None:
        if self.settings.with_trace:
            self.trace.say(self.now, host.name, what)
