"""Random schedules of faults: what may befall a mesh, drawn from a seed, and how it is done to a world."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from gossip.event import Hint, LocalUpdate
from gossip.simulator import inside
from gossip.simulator.agenda import Action
from gossip.simulator.host import Host
from gossip.simulator.hosting import Hosting
from gossip.simulator.inviting import Inviting
from gossip.simulator.liar import Liar
from gossip.simulator.network import Bursts, Conditions
from gossip.simulator.world import QUIC_SILENCE_S, World
from transport.interface import NodeId


class Kind(Enum):
    """What may happen. Everything that lasts ends when the faults stop, but for crashes that were for good."""

    CRASH = "crash"
    LOST_DISK = "crash and lost disk"
    ALL_CRASH = "everyone crashes"
    LEAVE = "leave"
    PART = "partition"
    ONE_WAY = "one-way partition"
    BRIDGE = "bridge partition"
    PAUSE = "pause"
    SLOW = "slow node"
    CLOCK = "wall clock jumps"
    LOSS = "heavy loss"
    LIE = "a member alters what it passes on"
    SAY = "facts change"
    HINT = "a request fails"
    JOIN = "joining by token"
    UNWELL = "an engine is unwell"
    CUT_HOST = "the elected host is cut off"
    STOP_HOST = "the elected host stands still"


JOIN_AGAIN_S = 1.0
QUORUM_SHARE = 0.25
"""Of the meshes that can have one, those whose hosts want a majority."""

STOPPED_SHARE = 0.08
"""Of the meshes that can go on without it, those whose host stands still for long."""

LARGE = 20
"""Nodes. Of a larger mesh fewer things are asked, since each costs more."""

WEIGHTS: dict[Kind, int] = {
    Kind.CRASH: 6,
    Kind.LOST_DISK: 3,
    Kind.ALL_CRASH: 1,
    Kind.LEAVE: 2,
    Kind.PART: 5,
    Kind.ONE_WAY: 3,
    Kind.BRIDGE: 3,
    Kind.PAUSE: 5,
    Kind.SLOW: 2,
    Kind.CLOCK: 2,
    Kind.LOSS: 2,
    Kind.LIE: 3,
    Kind.SAY: 4,
    Kind.HINT: 2,
    Kind.JOIN: 4,
    Kind.UNWELL: 1,
}

OF_MANY = (Kind.PART, Kind.BRIDGE, Kind.ALL_CRASH)
"""What befalls half a mesh or all of it, and would take minutes to compute in a large one."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens. hosts: by number.  lasts_s: infinite for what is for good.  amount: of its kind."""

    at_s: float
    kind: Kind
    hosts: tuple[int, ...]
    lasts_s: float
    amount: float = 0.0

    def __str__(self) -> str:
        who = ",".join(map(str, self.hosts))
        return f"{self.at_s:6.2f} s  {self.kind.value}: {who} for {self.lasts_s:.2f} s ({self.amount:.3g})"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole run. silence_s: as in `Settings`.  faults_s: when the faults stop.

    ends_with_crash: one more, of a mesh at peace.  wants_quorum: a host needs the leave of a majority.
    """

    seed: int
    nodes: int
    conditions: Conditions
    has_real_keys: bool
    silence_s: float
    ends_with_crash: bool
    faults_s: float
    faults: tuple[Fault, ...]
    wants_quorum: bool = False

    @property
    def calm(self) -> Conditions:
        """What the network is like once the faults have stopped."""
        return replace(self.conditions, loss=min(0.05, self.conditions.loss), bursts=None, duplication=0.0)


def draw_schedule(seed: int, nodes: int | None = None) -> Schedule:
    """The schedule of a seed. nodes: instead of the few that it would have; more than `LARGE` are not parted."""
    dice = random.Random(f"schedule {seed}")
    size = dice.choice((2, 2, 3, 3, 3, 4, 4, 5, 6, 8))
    size = nodes if nodes is not None else size
    conditions = _draw_conditions(dice)
    if size > LARGE:
        conditions = Conditions(loss=min(0.05, conditions.loss))
    faults_s = dice.choice((dice.uniform(8.0, 18.0), dice.uniform(8.0, 18.0), dice.uniform(18.0, 28.0)))
    if size > LARGE:
        faults_s = dice.uniform(7.0, 9.0)
    count = dice.choice((1, 2, 2, 3, 3, 4, 5)) if size <= LARGE else 8
    faults = [_draw_fault(dice, size, faults_s) for _ in range(count)]
    if size > 2 and dice.random() < 0.15:
        faults += _draw_pause_of_an_accuser(dice, size, faults_s)
    has_real_keys = dice.random() < 0.05
    silence_s = QUIC_SILENCE_S if dice.random() < 0.8 else 20.0
    ends_with_crash = dice.random() < 0.35 and size <= LARGE
    if 2 < size <= LARGE and dice.random() < 0.08:
        # Long enough for a successor, and for its workers to let go of the host that cannot be asked.
        faults.append(Fault(dice.uniform(7.0, 10.0), Kind.CUT_HOST, (), dice.uniform(13.0, 16.0)))
        faults_s = max(faults_s, 27.0)
    sleeper = random.Random(f"sleeper {seed}")
    if 2 < size <= LARGE and sleeper.random() < STOPPED_SHARE:
        # Long enough for a successor; when it wakes, it has yet to hear of that one.
        faults.append(Fault(sleeper.uniform(7.0, 10.0), Kind.STOP_HOST, (), sleeper.uniform(10.0, 17.0)))
        faults_s = max(faults_s, 34.0)
    faults.sort(key=lambda fault: fault.at_s)
    wants_quorum = 2 < size <= LARGE and random.Random(f"quorum {seed}").random() < QUORUM_SHARE
    return Schedule(
        seed, size, conditions, has_real_keys, silence_s, ends_with_crash, faults_s, tuple(faults), wants_quorum
    )


def _draw_conditions(dice: random.Random) -> Conditions:
    return Conditions(
        rtt_s=dice.choice((0.001, 0.005, 0.02, 0.02, 0.06, 0.15)),
        jitter=dice.choice((0.2, 1.0, 3.0)),
        loss=dice.choice((0.0, 0.0, 0.02, 0.1, 0.2)),
        duplication=dice.choice((0.0, 0.0, 0.05)),
        bursts=dice.choice((None, None, None, Bursts())),
    )


def _draw_pause_of_an_accuser(dice: random.Random, nodes: int, faults_s: float) -> list[Fault]:
    """Somebody dies, and somebody else stands still while it suspects that one."""
    at_s = dice.uniform(3.0, faults_s - 4.0)
    dead, *others = dice.sample(range(nodes), min(nodes, 3))
    pause = Fault(at_s + dice.uniform(1.0, 3.5), Kind.PAUSE, tuple(others[:1]), dice.uniform(2.1, 6.0))
    return [Fault(at_s, Kind.CRASH, (dead,), float("inf")), pause]


def _draw_fault(dice: random.Random, nodes: int, faults_s: float) -> Fault:
    kinds = {kind: weight for kind, weight in WEIGHTS.items() if nodes <= LARGE or kind not in OF_MANY}
    kind = dice.choices(list(kinds), list(kinds.values()))[0]
    at_s = dice.uniform(1.5, faults_s - 2.0)
    order = tuple(dice.sample(range(nodes), min(nodes, LARGE)))
    lasts_s = min(faults_s - at_s, dice.choice((dice.uniform(0.2, 3.0), dice.uniform(3.0, 20.0))))
    match kind:
        case Kind.CRASH | Kind.LOST_DISK | Kind.LEAVE:
            is_for_good = dice.random() < 0.35
            return Fault(at_s, kind, order[:1], float("inf") if is_for_good else lasts_s)
        case Kind.PART | Kind.BRIDGE:
            return Fault(at_s, kind, order, lasts_s, dice.randint(1, max(1, nodes - 1)))
        case Kind.ONE_WAY | Kind.HINT:
            return Fault(at_s, kind, order[:2], lasts_s)
        case Kind.PAUSE:
            return Fault(at_s, kind, order[: dice.choice((1, 1, 2))], dice.uniform(0.5, 9.0))
        case Kind.SLOW:
            return Fault(at_s, kind, order[:1], lasts_s, dice.uniform(0.05, 1.2))
        case Kind.CLOCK:
            return Fault(at_s, kind, order[:1], lasts_s, dice.uniform(-1.0, 1.0) * dice.choice((60.0, 86400.0 * 60)))
        case Kind.LOSS:
            return Fault(at_s, kind, (), lasts_s, dice.uniform(0.3, 0.6))
        case Kind.JOIN:
            return Fault(at_s, kind, order, faults_s - at_s, dice.choice((1, 1, 2)))
        case Kind.ALL_CRASH:
            return Fault(at_s, kind, order, dice.uniform(0.2, 3.0))
        case Kind.LIE | Kind.SAY | Kind.UNWELL | Kind.CUT_HOST | Kind.STOP_HOST:
            return Fault(at_s, kind, order[:1], lasts_s)


class Faults:
    """Does a schedule to a world. hosts: by number, the first the issuer of invitations."""

    def __init__(
        self, world: World, hosts: list[Host], schedule: Schedule, hosting: Hosting, inviting: Inviting
    ) -> None:
        self._world = world
        self._hosts = hosts
        self._schedule = schedule
        self._hosting = hosting
        self._inviting = inviting
        self._dice = random.Random(f"faults {schedule.seed}")
        self._joiners = 0
        self._said = 0
        self._deeds: dict[Kind, Callable[[Fault, list[Host]], None]] = {
            Kind.CRASH: self._crash,
            Kind.LOST_DISK: self._crash,
            Kind.LEAVE: self._crash,
            Kind.ALL_CRASH: self._crash_all,
            Kind.PART: self._block,
            Kind.ONE_WAY: self._block,
            Kind.BRIDGE: self._block,
            Kind.CUT_HOST: self._cut_host,
            Kind.STOP_HOST: self._stop_host,
            Kind.PAUSE: self._stop,
            Kind.SLOW: self._slow,
            Kind.CLOCK: self._shift_clock,
            Kind.LOSS: self._lose_packets,
            Kind.LIE: self._lie,
            Kind.SAY: self._say,
            Kind.HINT: self._hint,
            Kind.JOIN: self._invite,
            Kind.UNWELL: self._sicken,
        }

    def plan(self) -> None:
        """Put every fault, and the end of all, on the agenda."""
        for fault in self._schedule.faults:
            self._world.agenda.after(fault.at_s, partial(self._begin, fault))

    def _begin(self, fault: Fault) -> None:
        self._deeds[fault.kind](fault, [self._hosts[index] for index in fault.hosts])

    def _crash(self, fault: Fault, hosts: list[Host]) -> None:
        self._take_down(fault, hosts[0], fault.lasts_s)

    def _crash_all(self, fault: Fault, hosts: list[Host]) -> None:
        for host in hosts:
            self._take_down(fault, host, fault.lasts_s * (0.5 + 0.5 * self._dice.random()))

    def _stop(self, fault: Fault, hosts: list[Host]) -> None:
        for host in hosts:
            self._pause(host, fault.lasts_s)

    def _stop_host(self, fault: Fault, hosts: list[Host]) -> None:
        self._stop(fault, self._claimants())

    def _slow(self, fault: Fault, hosts: list[Host]) -> None:
        hosts[0].lag_s = fault.amount
        self._after(fault, partial(self._hasten, hosts[0]))

    def _shift_clock(self, fault: Fault, hosts: list[Host]) -> None:
        hosts[0].wall_offset_s = fault.amount
        self._after(fault, partial(self._set_clock, hosts[0]))

    def _lose_packets(self, fault: Fault, hosts: list[Host]) -> None:
        self._world.network.worsen(fault.amount)
        self._after(fault, partial(self._world.network.worsen, self._schedule.conditions.loss))

    def _lie(self, fault: Fault, hosts: list[Host]) -> None:
        node, liars = hosts[0].node, self._world.carrier.liars
        liars[node] = Liar(node, self._dice)
        self._after(fault, partial(liars.pop, node, None))

    def _say(self, fault: Fault, hosts: list[Host]) -> None:
        self._keep_saying(hosts[0], self._world.now + fault.lasts_s)

    def _hint(self, fault: Fault, hosts: list[Host]) -> None:
        if hosts[0].is_up and not hosts[0].is_paused:
            self._world.tell(hosts[0], Hint(hosts[-1].node, "a request failed"))

    def _sicken(self, fault: Fault, hosts: list[Host]) -> None:
        node, unwell = hosts[0].node, self._hosting.unwell
        unwell[node] = True
        self._after(fault, partial(unwell.pop, node, None))

    def _after(self, fault: Fault, end: Action) -> None:
        self._world.agenda.after(fault.lasts_s, end)

    def _take_down(self, fault: Fault, host: Host, lasts_s: float) -> None:
        if host.process is None or host.process.has_left:
            return
        if fault.kind is Kind.LEAVE and not host.is_paused:
            self._world.shut_down(host)
            lasts_s = max(1.5, lasts_s)
        else:
            self._world.kill(host)
        if fault.kind is Kind.LOST_DISK:
            self._world.lose_disk(host)
        if lasts_s < float("inf"):
            self._world.agenda.after(lasts_s, partial(self._bring_up, host))

    def _bring_up(self, host: Host) -> None:
        """Start it again; without its disk it has to join anew, at somebody who can be reached."""
        if host.process is not None:
            return
        others = [other for other in self._hosts if other is not host]
        if not host.disk.boot:
            boots = self._remembered_boots(host, others)
            if not boots:
                self._world.agenda.after(JOIN_AGAIN_S, partial(self._bring_up, host))
                return
            host.disk.boot = max(boots)
        self._world.start(host, others)

    def _remembered_boots(self, host: Host, others: list[Host]) -> list[int]:
        """What each of the others knows of its starts; nothing until all that know of any can be asked.

        Whoever asks less may start under a number that it had before: see docs/decisions/0013-simulator.md.
        """
        running = [other for other in others if other.is_up]
        boots = {other.node: inside.highest_boot(other.running.engine, host.node) for other in running}
        must_answer = [other for other in running if boots[other.node]] or running[:1]
        return list(boots.values()) if all(self._world.can_ask(host, other) for other in must_answer) else []

    def _block(self, fault: Fault, hosts: list[Host]) -> None:
        size = int(fault.amount)
        ways: list[tuple[NodeId, NodeId]] = []
        if fault.kind is Kind.ONE_WAY:
            ways = [(hosts[0].node, hosts[-1].node)] if len(hosts) > 1 else []
        else:
            # Over a bridge, the first of the others sees both sides.
            bridge = 1 if fault.kind is Kind.BRIDGE else 0
            ways = [(one.node, other.node) for one in hosts[:size] for other in hosts[size + bridge :]]
            ways += [(other, one) for one, other in ways]
        self._world.network.block(ways)
        for host in hosts[:size]:
            self._world.carrier.vanished(host)
        self._after(fault, partial(self._world.network.unblock, ways))

    def _cut_host(self, fault: Fault, hosts: list[Host]) -> None:
        """Whoever hosts now reaches nobody, and nobody reaches it."""
        for host in self._claimants():
            ways = [(host.node, other.node) for other in self._hosts if other is not host]
            ways += [(other, one) for one, other in ways]
            self._world.network.block(ways)
            self._world.carrier.vanished(host)
            self._after(fault, partial(self._world.network.unblock, ways))

    def _claimants(self) -> list[Host]:
        """The elected host, where there is one that runs."""
        up = (host for host in self._hosts if host.is_up)
        return [host for host in up if self._hosting.agents[host.node].claim is not None][:1]

    def _pause(self, host: Host, lasts_s: float) -> None:
        if host.is_up and not host.is_paused:
            self._world.pause(host)
            self._world.agenda.after(lasts_s, partial(self._world.resume, host))

    def _hasten(self, host: Host) -> None:
        host.lag_s = 0.0

    def _set_clock(self, host: Host) -> None:
        host.wall_offset_s = 0.0

    def _keep_saying(self, host: Host, until: float) -> None:
        if self._world.now >= until:
            return
        if host.is_up and not host.is_paused:
            self._said += 1
            key = self._dice.choice(("load", "models"))
            value = f"{key} {self._said} ".encode().ljust(self._dice.choice((20, 300, 900)), b".")
            self._world.tell(host, LocalUpdate(key, value, is_urgent=self._dice.random() < 0.5))
        self._world.agenda.after(self._dice.uniform(0.1, 2.0), partial(self._keep_saying, host, until))

    def _invite(self, fault: Fault, hosts: list[Host]) -> None:
        """One token, and more hosts that try to join by it at once than it has uses, each through whom it likes."""
        invite = self._inviting.invite(int(fault.amount))
        if invite is None:
            return
        for _ in range(int(fault.amount) + 1):
            self._joiners += 1
            joiner = self._world.add(f"join{self._joiners}")
            self._inviting.join(joiner, invite, hosts, self._world.now + fault.lasts_s)
