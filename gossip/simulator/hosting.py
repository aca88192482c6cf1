"""Elections, leases and fences on every simulated host: the real deciders, and the driver's work in virtual time.

One resource that every host with a `gpu` fact could host. Its claimed host wants leases of the others and uses
each of them twice a second, which is where an old term or a second host would show.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from gossip import grant, tenure
from gossip.event import Effect, Event, LocalUpdate
from gossip.facts import GPU, Device, GpuFact, read_gpu
from gossip.fence import Fences
from gossip.lease import CLAIMS, GIB, Candidate, Claim, Election, Yield, encode_claims, standing_claim
from gossip.lease_message import (
    LeaseGranted,
    LeaseRefused,
    LeaseRelease,
    LeaseRequest,
    Reply,
    read_question,
    read_reply,
)
from gossip.quorum import quorum, voters
from gossip.simulator.host import Host, OnReply, Process
from gossip.simulator.world import World
from gossip.view import NodeView, View
from transport import wire
from transport.interface import NodeId, Role

RESOURCE = "host/model"
STEP_S = 1.0
USE_EVERY_S = 0.5
MAX_WORKERS = 8
"""Of one host: more than a split model has."""

DISK_S = 0.03
"""How long a write and its fsync take: long enough for a crash to come between."""


@dataclass(frozen=True, slots=True)
class Served:
    """A worker did something for a host, under a lease of this term."""

    at: float
    worker: NodeId
    host: NodeId
    term: int


class Hosting:
    """The part of a world that elects and grants. Add it to `World.watchers` before hosts start.

    on_served: told of every use of a lease that a worker allowed.  on_gained: of every lease that a host may use.
    on_refused: of every refusal, with worker and host.  on_stepping_up: of every host that is about to claim a higher
    term than its own.
    """

    def __init__(self, world: World, seed: int | str, step_s: float = STEP_S, *, wants_quorum: bool = False) -> None:
        self.world = world
        self.step_s = step_s
        self.wants_quorum = wants_quorum
        self.agents: dict[NodeId, Agent] = {}
        self.unwell: dict[NodeId, bool] = {}
        self.on_served: list[Callable[[Served], object]] = []
        self.on_gained: list[Callable[[Agent, tenure.Lease], object]] = []
        self.on_refused: list[Callable[[Agent, Agent, LeaseRefused], object]] = []
        self.on_stepping_up: list[Callable[[Agent], object]] = []
        self._dice = random.Random(f"hosting {seed}")
        self._capacity: dict[NodeId, int] = {}
        self._read: dict[bytes, int | None] = {}

    def handled(self, process: Process, event: Event, effects: Sequence[Effect]) -> None:
        pass

    def started(self, process: Process) -> None:
        if process.me.role is Role.CLIENT:
            return
        node = process.node
        score = self._capacity.setdefault(node, self._dice.choice((4, 8, 8, 12, 24)))
        device = Device("simulated", "cuda", score * GIB, score * GIB)
        self.agents[node] = agent = Agent(self, process, self._dice)
        self.world.handle(process, LocalUpdate(GPU, wire.encode(GpuFact((device,)))))
        self.world.agenda.after(self.step_s * self._dice.random(), agent.step)
        self.world.agenda.after(USE_EVERY_S * self._dice.random(), agent.use)

    def capacity(self, node: NodeView) -> int | None:
        """What a node says of its memory; None when it says nothing."""
        value = node.facts.get(GPU)
        # Each says the same all the time, and is read by all the others again and again.
        if value is not None and value not in self._read:
            fact = read_gpu(node)
            self._read[value] = sum(device.total_bytes for device in fact.devices) if fact is not None else None
        return self._read[value] if value is not None else None

    def agent(self, host: Host) -> Agent:
        """What runs on a host that is up."""
        return self.agents[host.node]


@dataclass(eq=False)
class Agent:
    """One process' election, leases as host, and leases as worker."""

    hosting: Hosting
    process: Process
    dice: random.Random
    claim: Claim | None = None
    wanted: dict[NodeId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        host, now = self.process.host, self.hosting.world.now
        self.fences = Fences.decode(host.disk.fences, host.name) if host.disk.fences else Fences()
        self.election = Election()
        self.election.recall(RESOURCE, self.fences.get(RESOURCE).term)
        self.tenure = tenure.Tenure(self.dice.randbytes)
        self.grants = grant.Grants(self.fences, now)

    # -- as a candidate, and as the host

    def step(self) -> None:
        """Take part in the election, and ask for leases."""
        if not self.process.is_running:
            return
        self._again(self.hosting.step_s, self.step)
        if self.process.host.is_paused or self.process.has_left:
            return
        world = self.hosting.world
        view = self.process.engine.view(world.now, {})
        match self.election.decide(RESOURCE, self._candidates(view), view, world.now):
            case Claim() as claim:
                self._keep_claim(claim)
            case Yield():
                self._withdraw()
            case None:
                pass
        self._hold(view)

    def use(self) -> None:
        """Have every worker whose lease may be used now do something."""
        if not self.process.is_running:
            return
        self._again(USE_EVERY_S, self.use)
        if self.process.host.is_paused:
            return
        world = self.hosting.world
        self._perform_host(self.tenure.handle(world.now, tenure.Tick()))
        for worker, lease in self.tenure.leases(world.now, RESOURCE).items():
            order = lease.lease + lease.term.to_bytes(8, "big")
            world.carrier.ask(self.process, worker, order, self._serve, 1.0)

    def majority(self) -> frozenset[NodeId] | None:
        """The members of which more than half agree now that this node hosts; None where they do not."""
        now = self.hosting.world.now
        if self.claim is None or not self.process.is_running:
            return None
        view = self.process.engine.view(now, {})
        votes = self.tenure.leases(now, RESOURCE, "vote")
        if not quorum(view, votes, has_own_vote=self.grants.has_own_vote(now, RESOURCE)).is_reached:
            return None
        return frozenset((view.me.node, *voters(view)))

    def _again(self, wait_s: float, action: Callable[[], None]) -> None:
        self.hosting.world.agenda.after(wait_s + self.process.host.lag_s, action)

    def _candidates(self, view: View) -> list[Candidate]:
        unwell = self.hosting.unwell
        return [
            Candidate(node.node, capacity, node.node not in unwell)
            for node in view.nodes
            if (capacity := self.hosting.capacity(node)) is not None
        ]

    def _keep_claim(self, claim: Claim) -> None:
        """Have the claim on disk before anybody hears of it; not at all when that term is somebody else's here."""
        if self.fences.get(RESOURCE).admits(claim.term, self.process.node):
            self.fences.raise_to(RESOURCE, claim.term, self.process.node)
            self._after_saving(partial(self._publish, claim))

    def _publish(self, claim: Claim) -> None:
        if self.claim is not None:
            for watcher in self.hosting.on_stepping_up:
                watcher(self)
        self.claim = claim
        self.hosting.world.handle(self.process, LocalUpdate(CLAIMS, encode_claims([claim]), is_urgent=True))

    def _withdraw(self) -> None:
        if self.claim is not None:
            self.claim = None
            self.hosting.world.handle(self.process, LocalUpdate(CLAIMS, encode_claims([]), is_urgent=True))

    def _hold(self, view: View) -> None:
        me, now = view.me.node, self.hosting.world.now
        usable = [node.node for node in view.nodes if node.is_usable and node.linked and node.node != me]
        self.wanted = dict.fromkeys(usable[:MAX_WORKERS], 0) if self.claim is not None else {}
        term = self.claim.term if self.claim is not None else 0
        self._perform_host(self.tenure.handle(now, tenure.Hold(RESOURCE, "work", term, self.wanted)))
        if self.hosting.wants_quorum:
            asked = dict.fromkeys(voters(view), 0) if self.claim is not None else {}
            self._perform_host(self.tenure.handle(now, tenure.Hold(RESOURCE, "vote", max(1, term), asked)))

    def _perform_host(self, effects: list[tenure.Effect]) -> None:
        carrier = self.hosting.world.carrier
        for effect in effects:
            match effect:
                case tenure.Ask(number, worker, request):
                    receive = partial(self._lease_message, number)
                    if not carrier.ask(self.process, worker, wire.encode(request), receive, tenure.ASK_S):
                        self._tell_tenure(tenure.Failed(number, "no connection"))
                case tenure.LetGo(worker, release):
                    carrier.ask(
                        self.process, worker, wire.encode(release), self._lease_message_unanswered, tenure.ASK_S
                    )
                case tenure.Gained(lease):
                    for watcher in self.hosting.on_gained:
                        watcher(self, lease)
                case tenure.Stale(resource, term):
                    self.election.refused(resource, term)
                case tenure.Lost():
                    pass

    def _tell_tenure(self, event: tenure.Event) -> None:
        self._perform_host(self.tenure.handle(self.hosting.world.now, event))

    def _lease_message(
        self, number: int, process: Process, far: Process, payload: bytes, on_reply: OnReply | None
    ) -> None:
        """A question at the worker, or its answer at the host, which is this agent."""
        if process is self.process:
            self._tell_tenure(tenure.Answered(number, read_reply(payload, far.node)))
        else:
            self.hosting.agents[process.node].answer(far, payload, on_reply)

    def _lease_message_unanswered(
        self, process: Process, far: Process, payload: bytes, on_reply: OnReply | None
    ) -> None:
        if process is not self.process:
            self.hosting.agents[process.node].answer(far, payload, None)

    # -- as a worker

    def answer(self, asker: Process, payload: bytes, on_reply: OnReply | None) -> None:
        """Answer a host's question as a worker."""
        world, peer = self.hosting.world, asker.as_peer
        match read_question(payload, peer.node):
            case LeaseRequest() as request:
                view = self.process.engine.view(world.now, {})
                claim = standing_claim(view, request.resource, self.fences.get(request.resource).term)
                event: grant.Event = grant.Asked(peer.node, peer.boot, request, claim)
            case LeaseRelease() as release:
                event = grant.LetGo(peer.node, release)
        self._perform_worker(self.grants.handle(world.now, event), event, on_reply)

    def _perform_worker(self, effects: list[grant.Effect], event: grant.Event, on_reply: OnReply | None) -> None:
        for index, effect in enumerate(effects):
            match effect:
                case grant.Remember():
                    self._after_saving(partial(self._perform_worker, effects[index + 1 :], event, on_reply))
                    return
                case grant.Answer(reply):
                    self._reply(reply, event, on_reply)
                case grant.Began() | grant.Ended():
                    pass

    def _reply(self, reply: Reply, event: grant.Event, on_reply: OnReply | None) -> None:
        """Answer; not with a grant that ended while the disk was waited for."""
        if isinstance(reply, LeaseGranted) and isinstance(event, grant.Asked):
            request, now = event.request, self.hosting.world.now
            if self.grants.find(now, event.host, event.boot, request.lease, request.term) is None:
                return
        if isinstance(reply, LeaseRefused) and isinstance(event, grant.Asked):
            for watcher in self.hosting.on_refused:
                watcher(self, self.hosting.agents[event.host], reply)
        if on_reply is not None:
            on_reply(wire.encode(reply))

    def _serve(self, process: Process, far: Process, payload: bytes, on_reply: OnReply | None) -> None:
        worker, now = self.hosting.agents[process.node], self.hosting.world.now
        term = int.from_bytes(payload[16:], "big")
        if worker.grants.find(now, far.node, far.as_peer.boot, payload[:16], term) is not None:
            served = Served(now, process.node, far.node, term)
            for watcher in self.hosting.on_served:
                watcher(served)

    def _after_saving(self, action: Callable[[], object]) -> None:
        """Write the fences, and go on when they are on disk: not at all where this process ends before."""
        self.hosting.world.agenda.after(DISK_S, partial(self._saved, self.fences.encode(), action))

    def _saved(self, content: bytes, action: Callable[[], object]) -> None:
        if self.process.is_running:
            self.process.host.disk.fences = content
            self.hosting.world.arrive(self.process, action)
