"""Whatever the network, the clocks and the crashes do: one host at a time, and never an older term after a newer.

Two workers and three hosts run the real deciders on clocks of their own, which run up to a tenth fast or slow. The
network loses, delays, repeats and reorders what they say for as long as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gossip.fence import Fences
from gossip.grant import Answer, Asked, Began, Grants, NotRemembered, Remember
from gossip.grant import Effect as WorkerEffect
from gossip.grant import Event as WorkerEvent
from gossip.grant import LetGo as WorkerLetGo
from gossip.grant import Tick as WorkerTick
from gossip.lease import Claim
from gossip.lease_message import LeaseGranted, LeaseReleased, LeaseRequest, Reply
from gossip.tenure import Answered, Ask, Effect, Event, Failed, Hold, Lease, LetGo, Stale, Tenure, Tick
from tests.gossip.leases import ALICE, BOB, CAROL, GIB, MODEL
from transport.interface import NodeId

HOSTS = (ALICE, BOB, CAROL)
WORKERS = (NodeId(b"v" * 32), NodeId(b"w" * 32))
RATES = st.sampled_from((0.9, 1.0, 1.1))


@dataclass
class Clock:
    """What a node reads at a true time: it began anywhere and runs at its own rate."""

    start: float
    rate: float

    def read(self, true: float) -> float:
        return self.start + self.rate * true


@dataclass
class Host:
    clock: Clock
    tenure: Tenure
    boot: int = 1
    term: int = 0


@dataclass
class Worker:
    clock: Clock
    grants: Grants
    fences: Fences
    disk: bytes
    disk_works: bool = True
    views: dict[NodeId, int] = field(default_factory=dict)
    served: tuple[int, NodeId] = (0, NodeId(b""))


@dataclass(frozen=True)
class Letter:
    """A message under way. `host` and `worker` are its two ends; payload says in which direction."""

    host: NodeId
    boot: int
    worker: NodeId
    number: int
    payload: Ask | LetGo | Reply


class Leases(RuleBasedStateMachine):
    """Letters stay deliverable, also again, until the test forgets them."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.true = 0.0
        self.letters: list[Letter] = []
        self.ids = 0
        self.hosts = {host: Host(self._clock(data), Tenure(self._random_bytes)) for host in HOSTS}
        self.workers: dict[NodeId, Worker] = {}
        for worker in WORKERS:
            clock = self._clock(data)
            fences = Fences()
            self.workers[worker] = Worker(clock, Grants(fences, clock.read(0.0)), fences, fences.encode())

    def _clock(self, data: st.DataObject) -> Clock:
        return Clock(data.draw(st.sampled_from((0.0, 1e6, 77.5))), data.draw(RATES))

    def _random_bytes(self, size: int) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(size, "big")

    # What happens

    @rule(seconds=st.sampled_from((0.5, 1.0, 1.5, 7.5, 8.0, 8.5, 9.5, 12.0)))
    def time_passes(self, seconds: float) -> None:
        """Without anybody looking at the clock: who is asleep does not."""
        self.true += seconds

    @rule(host=st.sampled_from(HOSTS))
    def a_host_looks_at_the_clock(self, host: NodeId) -> None:
        self._tell_host(host, Tick())

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_looks_at_the_clock(self, worker: NodeId) -> None:
        self._tell_worker(worker, WorkerTick())

    @rule(
        host=st.sampled_from(HOSTS),
        above=st.sampled_from((1, 1, 1, 0)),
        answers=st.sampled_from(("at once", "late", "not yet")),
    )
    def a_host_takes_over(self, host: NodeId, above: int, answers: str) -> None:
        """Mostly in the next term, and all workers hear of it."""
        self._claim(host, above + max(1 - above, *(one.term for one in self.hosts.values())))
        for worker in WORKERS:
            self.gossip_arrives(worker, host)
        match answers:
            case "at once":
                self.everything_arrives(farewells=True)
            case "late":
                self._all_arrive()
                self.true += 1.5
                self._all_arrive()

    def _claim(self, host: NodeId, term: int) -> None:
        self.hosts[host].term = term
        self._tell_host(host, Hold(MODEL, "work", term, dict.fromkeys(WORKERS, GIB)))

    @rule(host=st.sampled_from(HOSTS), farewells=st.booleans())
    def a_host_renews(self, host: NodeId, farewells: bool) -> None:
        """All that it asks is answered at once, whatever else is under way."""
        under_way, self.letters = self.letters, []
        self._tell_host(host, Tick())
        self.everything_arrives(farewells)
        self.letters += under_way

    @rule(host=st.sampled_from(HOSTS), seconds=st.sampled_from((2.0, 3.0)), times=st.integers(1, 5))
    def a_host_lives_on(self, host: NodeId, seconds: float, times: int) -> None:
        """As most hosts do most of the time."""
        for _ in range(times):
            self.true += seconds
            self.a_host_renews(host, farewells=True)

    @rule(host=st.sampled_from(HOSTS))
    def a_host_wants_none_or_one(self, host: NodeId) -> None:
        """And then both again, with what was said of the first two still under way."""
        term = max(1, self.hosts[host].term)
        self._tell_host(host, Hold(MODEL, "work", term, {}))
        self._claim(host, term)

    @rule(worker=st.sampled_from(WORKERS), host=st.sampled_from(HOSTS))
    def gossip_arrives(self, worker: NodeId, host: NodeId) -> None:
        self.workers[worker].views[host] = self.hosts[host].term

    @rule(worker=st.sampled_from(WORKERS), host=st.sampled_from(HOSTS))
    def a_host_counts_as_dead(self, worker: NodeId, host: NodeId) -> None:
        self.workers[worker].views.pop(host, None)

    @rule(data=st.data(), keeps=st.booleans())
    def a_letter_arrives(self, data: st.DataObject, keeps: bool) -> None:
        """Any of those under way, and perhaps once more later."""
        if self.letters:
            at = data.draw(st.integers(0, len(self.letters) - 1))
            self._deliver(self.letters[at] if keeps else self.letters.pop(at))

    @rule(farewells=st.booleans())
    def everything_arrives(self, farewells: bool) -> None:
        """Questions, and their answers; farewells too, or later."""
        for _ in range(2):
            self._all_arrive(farewells)

    def _all_arrive(self, farewells: bool = True) -> None:
        letters, self.letters = self.letters, []
        for letter in letters:
            if farewells or not isinstance(letter.payload, LetGo):
                self._deliver(letter)
            else:
                self.letters.append(letter)

    @rule(data=st.data())
    def a_letter_is_lost(self, data: st.DataObject) -> None:
        if self.letters:
            letter = self.letters.pop(data.draw(st.integers(0, len(self.letters) - 1)))
            if isinstance(letter.payload, Ask) and letter.boot == self.hosts[letter.host].boot:
                self._tell_host(letter.host, Failed(letter.number, "lost"))

    @rule(worker=st.sampled_from(WORKERS), knows=st.booleans())
    def a_worker_restarts(self, worker: NodeId, knows: bool) -> None:
        held = self.workers[worker]
        held.fences = Fences.decode(held.disk, "test")
        held.grants = Grants(held.fences, held.clock.read(self.true))
        held.views = held.views if knows else {}

    @rule(host=st.sampled_from(HOSTS))
    def a_host_restarts(self, host: NodeId) -> None:
        held = self.hosts[host]
        held.tenure = Tenure(self._random_bytes)
        held.boot += 1

    @rule(worker=st.sampled_from(WORKERS), works=st.booleans())
    def a_disk_fills_or_is_cleared(self, worker: NodeId, works: bool) -> None:
        self.workers[worker].disk_works = works

    # What must hold

    @invariant()
    def one_host_at_a_time_has_a_lease_by_its_own_clock(self) -> None:
        for worker in WORKERS:
            holders = [host for host in HOSTS if worker in self._leases(host)]
            assert len(holders) <= 1, f"{len(holders)} hosts hold a lease of one worker"

    @invariant()
    def a_worker_serves_no_host_below_its_fence(self) -> None:
        for worker in self.workers.values():
            fence = worker.fences.get(MODEL)
            for grant in worker.grants.grants(worker.clock.read(self.true)):
                assert fence.admits(grant.term, grant.host)

    def _leases(self, host: NodeId) -> dict[NodeId, Lease]:
        held = self.hosts[host]
        return held.tenure.leases(held.clock.read(self.true), MODEL)

    # The world

    def _tell_host(self, host: NodeId, event: Event) -> None:
        held = self.hosts[host]
        effects: list[Effect] = held.tenure.handle(held.clock.read(self.true), event)
        for effect in effects:
            match effect:
                case Ask(number, worker, _):
                    self.letters.append(Letter(host, held.boot, worker, number, effect))
                case LetGo(worker, _):
                    self.letters.append(Letter(host, held.boot, worker, 0, effect))
                case Stale(_, term) if term >= held.term:
                    held.term = term + 1
        del self.letters[:-40]

    def _deliver(self, letter: Letter) -> None:
        match letter.payload:
            case Ask(_, worker, request):
                claim = self._standing(self.workers[worker])
                self._question(letter, Asked(letter.host, letter.boot, request, claim))
            case LetGo(_, release):
                self._question(letter, WorkerLetGo(letter.host, release))
            case reply:
                if letter.boot == self.hosts[letter.host].boot:
                    self._tell_host(letter.host, Answered(letter.number, reply))

    def _standing(self, worker: Worker) -> Claim | None:
        claims = [Claim(MODEL, term, GIB, host) for host, term in worker.views.items() if term]
        return max(claims, key=lambda claim: claim.rank, default=None)

    def _question(self, letter: Letter, event: WorkerEvent) -> None:
        reply = self._tell_worker(letter.worker, event)
        if isinstance(reply, LeaseGranted):
            assert isinstance(event, Asked)
            self._is_no_older(self.workers[letter.worker], letter.host, event.request)
        if reply is not None and not isinstance(reply, LeaseReleased):
            self.letters.append(Letter(letter.host, letter.boot, letter.worker, letter.number, reply))

    def _is_no_older(self, worker: Worker, host: NodeId, request: LeaseRequest) -> None:
        """Of all that was ever answered here, restarts included."""
        term, former = worker.served
        assert request.term > term or (request.term, host) == (term, former), "an older term was served again"
        worker.served = (request.term, host)

    def _tell_worker(self, worker: NodeId, event: WorkerEvent) -> Reply | None:
        held = self.workers[worker]
        effects: list[WorkerEffect] = held.grants.handle(held.clock.read(self.true), event)
        for at, effect in enumerate(effects):
            match effect:
                case Remember():
                    if not held.disk_works:
                        begun = [one.grant.lease for one in effects[at:] if isinstance(one, Began)]
                        for lease in begun:
                            held.grants.handle(held.clock.read(self.true), NotRemembered(lease))
                        return None
                    held.disk = held.fences.encode()
                case Answer(reply):
                    return reply
        return None


TestLeases = Leases.TestCase
TestLeases.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
