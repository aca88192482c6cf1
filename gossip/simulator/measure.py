"""The figures of a mesh: how soon it notices a death, spreads a fact and heals, whom it slanders, what it costs."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gossip.event import Effect, Event, LocalUpdate, Notify
from gossip.simulator import inside
from gossip.simulator.host import Host, Process
from gossip.simulator.network import Conditions
from gossip.simulator.world import QUIC_SILENCE_S, Settings, World
from gossip.timing import LAN, Timing
from gossip.view import Status
from transport.interface import NodeId

FORMING_LIMIT_S = 300.0
SETTLING_LIMIT_S = 300.0
TRIAL_LIMIT_S = 120.0
PARTED_S = 40.0
LOAD_EVERY_S = 5.0
"""How often a node's load changes in the figures of bytes: more often than its pacing lets it say so in a big mesh."""

Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """One row of the table. trials: of each kind.  node_hours: quiet time in which nobody may be slandered."""

    nodes: int
    loss: float
    trials: int = 10
    partitions: int = 3
    node_hours: float = 1.0
    rtt_s: float = 0.02
    seed: int = 1
    timing: Timing = LAN
    with_hints: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured. Seconds, in ascending order; bytes and packets a second and node, payload only."""

    plan: Plan
    detection_s: tuple[float, ...]
    fact_s: tuple[float, ...]
    merging_s: tuple[float, ...]
    false_deaths: int
    node_hours: float
    bytes_per_s: float
    packets_per_s: float
    largest_datagram: int

    @property
    def false_deaths_per_hour(self) -> float:
        """Of one node: how often in an hour of its life somebody says that it is dead."""
        return self.false_deaths / self.node_hours


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the sorted `values` do not exceed (nearest rank)."""
    return values[min(len(values) - 1, max(0, -int(-share * len(values) // 1) - 1))]


@dataclass(eq=False)
class Census:
    """Watches who is called dead while it lives, and when a condition comes true at each node."""

    world: World
    slandered: dict[tuple[NodeId, int, int], float] = field(default_factory=dict)
    holds: Callable[[Process], bool] | None = None
    met_at: dict[NodeId, float] = field(default_factory=dict)

    def handled(self, process: Process, event: Event, effects: Sequence[Effect]) -> None:
        if not any(isinstance(effect, Notify) for effect in effects):
            return
        if self.holds is not None and process.node not in self.met_at and self.holds(process):
            self.met_at[process.node] = self.world.now

    def started(self, process: Process) -> None:
        pass

    def expect(self, holds: Callable[[Process], bool]) -> None:
        """Note from now on when `holds` first does at each node."""
        self.holds = holds
        self.met_at = {process.node: self.world.now for process in self.world.running() if holds(process)}

    def time_to_all(self, nodes: list[Host]) -> float:
        """Let time pass until all of `nodes` have met the condition; the limit where they never do."""
        start = self.world.now
        met = self.world.run_until(lambda: all(host.node in self.met_at for host in nodes), TRIAL_LIMIT_S)
        if met is None:
            return TRIAL_LIMIT_S
        return max(self.met_at[host.node] for host in nodes) - start


def measure(plan: Plan, tell: Progress = print) -> Row:
    """Make one row. Deterministic: the same plan makes the same row."""
    mesh = _Mesh(plan)
    tell(f"{plan.nodes} nodes, {plan.loss:.0%} loss: forming")
    mesh.form()
    mesh.settle()
    facts = []
    for index in range(plan.trials):
        tell(f"{plan.nodes} nodes, {plan.loss:.0%} loss: fact {index + 1} of {plan.trials}")
        facts.append(mesh.spread_fact(index))
    deaths = []
    for index in range(plan.trials):
        tell(f"{plan.nodes} nodes, {plan.loss:.0%} loss: crash {index + 1} of {plan.trials}")
        deaths.append(mesh.crash())
    merges = []
    for index in range(plan.partitions):
        tell(f"{plan.nodes} nodes, {plan.loss:.0%} loss: partition {index + 1} of {plan.partitions}")
        merges.append(mesh.part_and_heal())
    tell(f"{plan.nodes} nodes, {plan.loss:.0%} loss: {plan.node_hours:g} quiet node-hours")
    quiet = mesh.be_quiet()
    return Row(
        plan,
        tuple(sorted(deaths)),
        tuple(sorted(facts)),
        tuple(sorted(merges)),
        quiet.false_deaths,
        quiet.node_hours,
        quiet.bytes_per_s,
        quiet.packets_per_s,
        mesh.world.largest_datagram,
    )


@dataclass(frozen=True, slots=True)
class _Quiet:
    false_deaths: int
    node_hours: float
    bytes_per_s: float
    packets_per_s: float


class _Mesh:
    """One mesh of the size and loss of a plan, on which all its trials are made in turn."""

    def __init__(self, plan: Plan) -> None:
        conditions = Conditions(rtt_s=plan.rtt_s, loss=plan.loss)
        settings = Settings(
            conditions, plan.timing, silence_s=QUIC_SILENCE_S if plan.with_hints else float("inf"), with_trace=False
        )
        self.plan = plan
        self.world = World(plan.seed, settings)
        self.dice = random.Random(f"measure {plan.seed}")
        self.hosts = [self.world.add(f"node{index}") for index in range(plan.nodes)]
        self.census = Census(self.world)
        self.world.watchers.append(self.census)

    def form(self) -> None:
        for host in self.hosts:
            self.world.start(host, self.hosts[:1])
        self._await_all_alive()

    def settle(self) -> None:
        """Wait until nobody has anything left to tell: what a mesh that forms has to say takes a while."""
        engines = [process.engine for process in self.world.running()]
        self.world.run_until(lambda: not any(map(inside.rumours_waiting, engines)), SETTLING_LIMIT_S, 1.0)
        self.world.run(1.0 + self.dice.random())

    def spread_fact(self, index: int) -> float:
        """Publish something at random somewhere; how long until everyone knows it."""
        owner = self.dice.choice(self.hosts)
        value = f"fact {index}".encode()
        start = self.world.now
        self.census.expect(lambda process: inside.facts(process.engine, owner.node).get("load") == value)
        self.world.tell(owner, LocalUpdate("load", value, is_urgent=True))
        took = self.census.time_to_all(self.hosts)
        self.world.run(max(0.0, 3.0 - (self.world.now - start)) + self.dice.random())
        return took

    def crash(self) -> float:
        """Kill someone; how long until everyone knows. It is started again afterwards."""
        victim = self.dice.choice(self.hosts)
        self.census.expect(lambda process: inside.status(process.engine, victim.node) is Status.DEAD)
        self.world.kill(victim)
        took = self.census.time_to_all([host for host in self.hosts if host is not victim])
        self.world.start(victim, self.hosts[:2])
        self._await_all_alive()
        self.settle()
        return took

    def part_and_heal(self) -> float:
        """Cut the mesh in half until each half has given up the other; how long after that it is one again."""
        shuffled = self.dice.sample(self.hosts, len(self.hosts))
        half = len(shuffled) // 2
        ways = [(one.node, other.node) for one in shuffled[:half] for other in shuffled[half:]]
        ways += [(other, one) for one, other in ways]
        self.world.network.block(ways)
        self.world.run(PARTED_S)
        self.world.network.unblock(ways)
        took = self._await_all_alive()
        self.settle()
        return took

    def be_quiet(self) -> _Quiet:
        """Let nothing happen but loads that change; who is called dead meanwhile, and what it costs."""
        world, seconds = self.world, self.plan.node_hours * 3600 / self.plan.nodes
        bytes_before = sum(host.bytes_sent for host in self.hosts)
        packets_before = sum(host.packets_sent for host in self.hosts)
        slanders = _Slanders(world)
        world.watchers.append(slanders)
        start = world.now
        for index, host in enumerate(self.hosts):
            self._change_load(host, 0, start + seconds, LOAD_EVERY_S * index / len(self.hosts))
        world.run(seconds)
        world.watchers.remove(slanders)
        node_seconds = seconds * self.plan.nodes
        return _Quiet(
            len(slanders.seen),
            node_seconds / 3600,
            (sum(host.bytes_sent for host in self.hosts) - bytes_before) / node_seconds,
            (sum(host.packets_sent for host in self.hosts) - packets_before) / node_seconds,
        )

    def _change_load(self, host: Host, count: int, end: float, wait_s: float) -> None:
        def change() -> None:
            self.world.tell(host, LocalUpdate("load", f"{host.name} {count}".encode().ljust(64)))
            self._change_load(host, count + 1, end, LOAD_EVERY_S)

        if self.world.now + wait_s < end:
            self.world.agenda.after(wait_s, change)

    def _await_all_alive(self) -> float:
        nodes = [host.node for host in self.hosts]

        def sees_all(process: Process) -> bool:
            return all(inside.status(process.engine, node) is Status.ALIVE for node in nodes)

        waiting = self.world.running()

        def is_whole() -> bool:
            # Who saw everyone alive may since have been told otherwise; who never did keeps the rest from being asked.
            while waiting and sees_all(waiting[-1]):
                waiting.pop()
            return not waiting and all(map(sees_all, self.world.running()))

        took = self.world.run_until(is_whole, FORMING_LIMIT_S)
        if took is None:
            raise RuntimeError(
                f"a mesh of {len(nodes)} is not whole after {FORMING_LIMIT_S:.0f} s: seed {self.plan.seed}"
            )
        return took


@dataclass(eq=False)
class _Slanders:
    """Every life of a node, all of which live, that somebody called dead."""

    world: World
    seen: dict[tuple[NodeId, int, int], float] = field(default_factory=dict)

    def handled(self, process: Process, event: Event, effects: Sequence[Effect]) -> None:
        if not any(isinstance(effect, Notify) for effect in effects):
            return
        for member in inside.members(process.engine):
            if member.status is Status.DEAD:
                key = (member.node, member.record.boot, member.record.incarnation)
                self.seen.setdefault(key, self.world.now)

    def started(self, process: Process) -> None:
        pass


def median(values: Sequence[float]) -> float:
    """The middle one; not a number where there are none."""
    return statistics.median(values) if values else float("nan")
