"""What must hold at every step of a simulated mesh, whatever befalls it; and what must hold soon after it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

from gossip import tenure
from gossip.broadcast import MAX_RUMOURS
from gossip.event import Disconnected, Effect, Event, Hint, LocalUpdate, Notify, ReliableReceived, SendDatagram
from gossip.fence import Fences
from gossip.lease import all_claims
from gossip.lease_message import LeaseRefused, RefusalCode
from gossip.member import Standing, merge
from gossip.message import Delta, decode_reliable
from gossip.quorum import MIN_MEMBERS
from gossip.roster import Member
from gossip.simulator import inside
from gossip.simulator.faults import LARGE
from gossip.simulator.host import Disk, Host, Process
from gossip.simulator.hosting import RESOURCE, Agent, Hosting, Served
from gossip.simulator.inviting import Inviting
from gossip.simulator.world import World
from gossip.suspicion import MINIMUM_PROBES
from gossip.view import Status
from transport.identity import short
from transport.interface import MAX_DATAGRAM_BYTES, LinkState, NodeId
from transport.link_effect import Slot

EVERY_S = 0.5
"""How often each node of a large mesh is looked at; a small one is looked at whenever its view changes."""

PAUSE_S = 2.0
HINT_COUNTS_S = 20.0
"""However unwell the prober: a probe lasts 9 s then, and another may be under way when the hint comes."""

TOLERANCE_S = 1e-6


class Violation(Exception):
    """An invariant did not hold. name: which."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one process last showed of one member. paused_s: of the host, in all, when the status began."""

    standing: Standing
    since: float
    paused_s: float


@dataclass(eq=False)
class _Observer:
    """One process, and what it showed so far."""

    process: Process
    seen: dict[NodeId, _Seen] = field(default_factory=dict)
    hinted_at: dict[NodeId, float] = field(default_factory=dict)
    looked_at: float = 0.0


class Invariants:
    """Watches a world, and raises Violation in the step that breaks a rule. Add it to `World.watchers`."""

    def __init__(self, world: World, hosting: Hosting | None = None, inviting: Inviting | None = None) -> None:
        self._world = world
        self._hosting = hosting
        self._inviting = inviting
        self._observers: dict[NodeId, _Observer] = {}
        self._truth: dict[NodeId, tuple[int, int]] = {}
        self._left: dict[tuple[NodeId, int], bool] = {}
        self._published: dict[tuple[NodeId, str], dict[bytes, None]] = {}
        self._dead: dict[tuple[NodeId, int, int], None] = {}
        self._served: dict[NodeId, tuple[int, NodeId]] = {}
        self._samples: dict[NodeId, dict[Standing, None]] = {}
        self._disks: dict[NodeId, Disk] = {}
        self._refusals: dict[tuple[NodeId, int], list[bool]] = {}
        self._accused: dict[tuple[NodeId, int, int, NodeId], None] = {}
        if hosting is not None:
            hosting.on_served.append(self._check_served)
            hosting.on_gained.append(self._check_gained)
            hosting.on_refused.append(self._note_refusal)
            hosting.on_stepping_up.append(self._check_stepping_up)

    # -- at every step

    def started(self, process: Process) -> None:
        self._observers[process.node] = _Observer(process)
        self._note_own(process)
        if self._disks.setdefault(process.node, process.host.disk) is not process.host.disk:
            self._disks[process.node] = process.host.disk
            self._served.pop(process.node, None)  # what it promised was on the disk that it lost

    def handled(self, process: Process, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, LocalUpdate):
            self._published.setdefault((process.node, event.key), {})[event.value] = None
        # That a broken link has been given up on is no news, and no hint.
        if isinstance(event, Hint) or (isinstance(event, Disconnected) and not event.is_final):
            self._observers[process.node].hinted_at[event.node] = self._world.now
        is_changed = False
        for effect in effects:
            if isinstance(effect, SendDatagram) and len(effect.payload) > MAX_DATAGRAM_BYTES:
                raise Violation("payload", f"{process.host.name} sends {len(effect.payload)} B in a datagram")
            is_changed = is_changed or isinstance(effect, Notify)
        if is_changed:
            self._note_own(process)
            self._look(process, event)
        if self._inviting is not None:
            self._check_tokens(self._inviting)

    def _note_own(self, process: Process) -> None:
        own = inside.members(process.engine)[0]
        numbers = (own.record.boot, own.record.incarnation)
        self._truth[process.node] = max(numbers, self._truth.get(process.node, numbers))
        if own.record.has_left:
            self._left[process.node, own.record.boot] = True
        if own.status in (Status.SUSPECT, Status.DEAD):
            raise Violation("own death", f"{process.host.name} counts itself {own.status.name}")

    def _look(self, process: Process, event: Event) -> None:
        observer = self._observers[process.node]
        is_large = len(self._world.hosts) > LARGE
        if is_large and self._world.now - observer.looked_at < EVERY_S:
            return
        observer.looked_at = self._world.now
        if inside.rumours_waiting(process.engine) > 2 * MAX_RUMOURS:
            raise Violation("bounded queues", f"{process.host.name} has more rumours than may wait")
        for member in inside.members(process.engine)[1:]:
            self._check_member(observer, member, event)

    def _check_member(self, observer: _Observer, member: Member, event: Event) -> None:
        standing = member.standing
        before = observer.seen.get(member.node)
        if len(self._world.hosts) <= LARGE:
            self._check_facts(observer, member)
        if before is not None and before.standing == standing:
            return
        self._check_numbers(observer, member, before)
        if standing.status in (Status.SUSPECT, Status.DEAD) and len(self._world.hosts) <= LARGE:
            self._check_accuser(observer, member)
        if standing.status is Status.DEAD:
            self._check_death(observer, member, before, event)
        if standing.status is Status.LEFT and (member.node, standing.boot) not in self._left:
            self._raise("self-signed farewell", observer, member, "has left, which it never said")
        since = self._since(observer, member)
        observer.seen[member.node] = _Seen(standing, since, observer.process.host.paused_s)
        samples = self._samples.setdefault(member.node, {})
        if len(samples) < 12:
            samples[standing] = None

    def _check_numbers(self, observer: _Observer, member: Member, before: _Seen | None) -> None:
        numbers = (member.record.boot, member.record.incarnation)
        if before is not None and numbers < before.standing[:2]:
            self._raise("numbers grow", observer, member, f"fell back from {before.standing[:2]} to {numbers}")
        if numbers > self._truth.get(member.node, (0, 0)):
            self._raise("own words only", observer, member, f"is at {numbers}, which it never said")

    def _check_accuser(self, observer: _Observer, member: Member) -> None:
        """Whoever is named as accuser has suspected this very incarnation itself."""
        me, accuser = observer.process.node, member.accuser
        boot, incarnation, _ = member.standing
        self._accused[member.node, boot, incarnation, me] = None
        if accuser is not None and (member.node, boot, incarnation, accuser) not in self._accused:
            what = f"is accused at {boot, incarnation} by {self._names(accuser)}, which never did"
            self._raise("accusers mean this life", observer, member, what)

    def _check_death(self, observer: _Observer, member: Member, before: _Seen | None, event: Event) -> None:
        standing = member.standing
        key = (member.node, standing.boot, standing.incarnation)
        was_suspect = before is not None and before.standing == Standing(*key[1:], Status.SUSPECT)
        if key not in self._dead:
            waited_s = self._waited_s(observer, before) if before is not None and was_suspect else 0.0
            needed_s = MINIMUM_PROBES * self._world.settings.timing.probe_s
            if waited_s < needed_s - TOLERANCE_S - (EVERY_S if len(self._world.hosts) > LARGE else 0.0):
                what = f"is dead after a suspicion of {waited_s:.2f} s, not of {needed_s:.0f} s"
                self._raise("finished suspicion", observer, member, what)
            self._dead[key] = None
        is_alive_before = before is not None and before.standing.status is Status.ALIVE
        if is_alive_before and _is_delta(event):
            self._raise("hearsay is suspicion", observer, member, "was alive, and is dead by anti-entropy alone")

    def _since(self, observer: _Observer, member: Member) -> float:
        """When the clock of what is seen now began: a suspicion's with its hint, though a probe earlier at most."""
        now = self._world.now
        is_hinted = now - observer.hinted_at.get(member.node, -HINT_COUNTS_S) < HINT_COUNTS_S
        return now - self._world.settings.timing.probe_s if is_hinted and member.status is Status.SUSPECT else now

    def _waited_s(self, observer: _Observer, before: _Seen) -> float:
        """How long a suspicion has lasted, less what its holder stood still (if that was long enough to notice)."""
        paused_s = observer.process.host.paused_s - before.paused_s
        return self._world.now - before.since - (paused_s if paused_s > PAUSE_S else 0.0)

    def _check_facts(self, observer: _Observer, member: Member) -> None:
        for key, value in inside.facts(observer.process.engine, member.node).items():
            if value not in self._published.get((member.node, key), ()):
                self._raise("own words only", observer, member, f"said {value[:40]!r} as {key}, which it did not")

    def _check_tokens(self, inviting: Inviting) -> None:
        for token_id, admitted in inviting.admitted.items():
            if len(admitted) > inviting.uses[token_id]:
                what = f"token {token_id.hex()} of {inviting.uses[token_id]} uses admitted {len(admitted)} nodes"
                raise Violation("token uses", what)

    def _check_served(self, served: Served) -> None:
        highest = self._served.get(served.worker, (0, served.host))
        if served.term < highest[0] or (served.term == highest[0] and served.host != highest[1]):
            names = self._names(served.worker), self._names(served.host)
            what = f"{names[0]} serves {names[1]} in term {served.term} after term {highest[0]}"
            raise Violation("terms at a worker", what)
        self._served[served.worker] = (served.term, served.host)

    def _check_gained(self, agent: Agent, lease: tenure.Lease) -> None:
        """No other process may still use a lease on that worker."""
        assert self._hosting is not None
        now = self._world.now
        self._check_promise(lease)
        for other in self._hosting.agents.values():
            if other is agent or not other.process.is_running:
                continue
            if lease.seat.worker in other.tenure.leases(now, lease.seat.resource, lease.seat.purpose):
                names = agent.process.host.name, other.process.host.name, self._names(lease.seat.worker)
                raise Violation("one host at a worker", f"{names[0]} and {names[1]} both use {names[2]}")
        if lease.seat.purpose == "vote":
            self._check_majority(agent)

    def _check_majority(self, agent: Agent) -> None:
        """Of one and the same set of members, no other has a majority as well."""
        assert self._hosting is not None
        members = agent.majority()
        if members is None:
            return
        for other in self._hosting.agents.values():
            if other is not agent and other.majority() == members:
                names = agent.process.host.name, other.process.host.name
                raise Violation("one majority", f"{names[0]} and {names[1]} both have one of {len(members)} members")

    def _note_refusal(self, worker: Agent, host: Agent, refused: LeaseRefused) -> None:
        """Whether somebody leads in the term for which `worker` refuses `host`, and to the worker's knowledge."""
        assert self._hosting is not None
        if refused.code is not RefusalCode.STALE_TERM or host.claim is None:
            return
        fence = worker.fences.get(RESOURCE)
        leader = self._hosting.agents.get(fence.host)
        claim = leader.claim if leader is not None else None
        is_led = claim is not None and claim.term == fence.term and claim.rank > host.claim.rank
        is_known = inside.status(worker.process.engine, fence.host) in (Status.ALIVE, Status.SUSPECT)
        self._refusals.setdefault((host.process.node, host.claim.term), []).append(is_led and is_known)

    def _check_stepping_up(self, agent: Agent) -> None:
        """Some worker refused it while nobody led: who slept does not unseat its successor."""
        assert agent.claim is not None
        was_led = self._refusals.get((agent.process.node, agent.claim.term), [])
        if all(was_led):
            what = f"{agent.process.host.name} steps over whoever leads at the {len(was_led)} that refused it"
            raise Violation("the incumbent stays", what)

    def _check_promise(self, lease: tenure.Lease) -> None:
        """What a worker has told its host is on its disk, so that it knows of it after a crash."""
        worker = self._world.hosts[lease.seat.worker]
        if worker.process is None or self._world.now - worker.process.started_at < tenure.ASK_S:
            return
        stored = worker.disk.fences
        fences = Fences.decode(stored, worker.name) if stored else Fences()
        term = fences.get(lease.seat.resource).term
        if term < lease.term:
            what = f"{worker.name} has granted term {lease.term}, and its disk knows of {term}"
            raise Violation("promises are on disk", what)

    def _raise(self, name: str, observer: _Observer, member: Member, what: str) -> None:
        raise Violation(name, f"{observer.process.host.name} thinks that {self._names(member.node)} {what}")

    def _names(self, node: NodeId) -> str:
        host = self._world.hosts.get(node)
        return host.name if host is not None else short(node)

    # -- when it is over

    def check_merge_laws(self) -> None:
        """Merging is commutative, associative and idempotent on what was seen; the greater wins."""
        for standings in self._samples.values():
            for one, other, third in product(list(standings)[:6], repeat=3):
                is_lawful = (
                    merge(one, one) == one
                    and merge(one, other) == merge(other, one)
                    and merge(merge(one, other), third) == merge(one, merge(other, third))
                )
                if not is_lawful:
                    raise Violation("merge laws", f"broken by {one}, {other}, {third}")


def disagreements(world: World) -> list[str]:
    """Why the views of those that run do not yet all say what is so; empty when they do."""
    running = [process for process in world.running() if not process.has_left]
    found: list[str] = []
    pictures: dict[NodeId, dict[NodeId, tuple[Standing, tuple[tuple[str, bytes], ...]]]] = {}
    for process in running:
        pictures[process.node] = {
            member.node: (member.standing, tuple(sorted(inside.facts(process.engine, member.node).items())))
            for member in inside.members(process.engine)
        }
    for process, other in product(running, running):
        entry = pictures[process.node].get(other.node)
        if entry is None or entry[0].status is not Status.ALIVE:
            status = entry[0].status.name if entry is not None else "unknown"
            found.append(f"{other.host.name} is {status} to {process.host.name}")
    down = [host for host in world.hosts.values() if host.process is None]
    for process, host in product(running, down):
        entry = pictures[process.node].get(host.node)
        # Where nobody ever had a connection to it, there is no evidence, and a firewall looks the same.
        has_evidence = any(inside.was_linked(one.engine, host.node) for one in running)
        if entry is not None and has_evidence and entry[0].status in (Status.ALIVE, Status.SUSPECT):
            found.append(f"{host.name}, which is down, is {entry[0].status.name} to {process.host.name}")
    if not found and any(picture != pictures[running[0].node] for picture in pictures.values()):
        found.append("views differ")
    return found


def is_parted_for_good(world: World) -> bool:
    """Whether some that run know of no way to the others: whoever introduced them has died before it could."""
    running = [process for process in world.running() if not process.has_left]
    waiting = {process.node: process for process in running}
    found = [waiting.popitem()[1]] if waiting else []
    for process in found:
        near = [other for other in waiting.values() if _knows(process, other) or _knows(other, process)]
        found += [waiting.pop(other.node) for other in near]
    return bool(waiting)


def _knows(process: Process, other: Process) -> bool:
    return process.links.state(other.node) is not None


def loose_ends(world: World) -> list[str]:
    """Pairs of running processes that do not share exactly one control connection; who still has rumours to tell."""
    running = [process for process in world.running() if not process.has_left]
    talkers = running if len(running) > 1 else []
    found = [f"{one.host.name} still tells rumours" for one in talkers if inside.rumours_waiting(one.engine)]
    wires = _control_wires(running)
    for one, other in combinations(running, 2):
        shared = wires.get(frozenset((one.node, other.node)), {})
        is_linked = all(
            process.links.state(far.node) is LinkState.CONNECTED for process, far in ((one, other), (other, one))
        )
        if len(shared) != 1 or not all(shared.values()) or not is_linked:
            found.append(f"{one.host.name} and {other.host.name} have {len(shared)} connections")
    return found


def _control_wires(running: list[Process]) -> dict[frozenset[NodeId], dict[int, bool]]:
    """By pair of running processes: every control connection that either still has, and whether both do."""
    found: dict[frozenset[NodeId], dict[int, bool]] = {}
    for process in running:
        for end in process.wires.values():
            far = end.far
            if far is not None and far.process.is_running and end.wire.slot is Slot.CONTROL:
                pair = found.setdefault(frozenset((process.node, far.process.node)), {})
                pair[id(end.wire)] = end.is_open and far.is_open
    return found


def unsettled_claims(world: World, hosting: Hosting) -> list[str]:
    """Why there is not exactly one host that everyone knows of and that uses leases of all the others."""
    running = [process for process in world.running() if not process.has_left]
    able = [process for process in running if process.node not in hosting.unwell]
    if not able:
        return []
    found: list[str] = []
    claimants = [process for process in running if hosting.agents[process.node].claim is not None]
    if len(claimants) != 1:
        return [f"{len(claimants)} nodes claim {RESOURCE}"]
    host = claimants[0]
    for process in running:
        said = {claim.host for claim in all_claims(process.engine.view(world.now, {})) if claim.host in _nodes(running)}
        if said != {host.node}:
            found.append(f"{process.host.name} sees {len(said)} hosts")
    agent = hosting.agents[host.node]
    leases = agent.tenure.leases(world.now, RESOURCE)
    if hosting.wants_quorum and agent.majority() is None and len(inside.members(host.engine)) >= MIN_MEMBERS:
        down = len(inside.members(host.engine)) - len(running)
        found += ["its host has no majority"] if down < len(running) - 1 else []
    found += [f"{world.hosts[worker].name} grants its host no lease" for worker in agent.wanted if worker not in leases]
    return found


def wrongly_present(world: World, victim: Host) -> list[str]:
    """Who does not yet know that `victim`, which is down, is dead."""
    return [
        process.host.name
        for process in world.running()
        if inside.status(process.engine, victim.node) not in (Status.DEAD, Status.LEFT)
    ]


def _nodes(processes: list[Process]) -> set[NodeId]:
    return {process.node for process in processes}


def _is_delta(event: Event) -> bool:
    """Whether this is a page of anti-entropy."""
    if not isinstance(event, ReliableReceived):
        return False
    return isinstance(decode_reliable(event.payload, event.peer.node), Delta)
