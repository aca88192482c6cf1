"""Whom to ask next whether it is there, and what its silence means (SWIM §4.1, Lifeguard).

A round: ping; after the time-out ask three others and ping once more over the reliable channel; at the
end of the round say that it failed. Local health stretches both waits on a node that misses answers
itself. What a failed probe does to the target is `roster`'s business; sending is the engine's.

Half-way between two rounds one more is asked: a suspect against whom a voice is wanting, so that nobody waits for
chance to bring the others round to it; else, in a mesh of more than `FEW`, the next in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gossip.timing import FAR_S, MAX_HEALTH, WAN, Timing
from transport.interface import NodeId

MAX_ERRANDS = 1024
ACCUSED_AGAIN_S = 10.0
MAX_ROUND_TRIPS = 1024
ROUND_TRIP_GAIN = 0.25

FEW = 10
"""Others. Each is asked by one node a second on average, by chance: among 50, one trial in 150 asks a dead one for the
first time after 5 s or later, with twice the turns one in 20,000. Among few, turns leave less to chance."""


class Dice(Protocol):
    """The randomness handed in: `random.Random` has this shape."""

    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...

    def shuffle(self, x: list[NodeId], /) -> None: ...

    def sample(self, population: list[NodeId], k: int) -> list[NodeId]: ...


@dataclass(slots=True, eq=False)
class Probe:
    """One question under way. helpers: those asked, with what they said (None: nothing yet).

    hinted_at: when a failed request started it, which is evidence of its own.
    """

    target: NodeId
    sequence: int
    begun_at: float
    ask_at: float
    fails_at: float
    hinted_at: float | None
    has_asked: bool = False
    helpers: dict[NodeId, bool | None] = field(default_factory=dict)

    @property
    def missing_nacks(self) -> int:
        """Helpers that did not answer at all: a sign that it is us who cannot hear."""
        return sum(answer is None for answer in self.helpers.values())

    @property
    def was_tried(self) -> bool:
        """Whether a helper with a connection to the target tried in vain."""
        return any(answer is True for answer in self.helpers.values())


@dataclass(frozen=True, slots=True)
class Errand:
    """A ping sent on behalf of `client`, which calls it `client_sequence`."""

    target: NodeId
    client: NodeId
    client_sequence: int
    ends_at: float


class Rotation:
    """Members in a shuffled order, each once before any twice; newcomers enter at a random place."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._order: list[NodeId] = []
        self._included: dict[NodeId, None] = {}
        self._next = 0

    def include(self, node: NodeId, wanted: bool) -> None:
        """Have `node` take its turn from now on, or no longer."""
        if wanted and node not in self._included:
            self._included[node] = None
            self._order.insert(self._dice.randrange(len(self._order) + 1), node)
        elif not wanted and node in self._included:
            del self._included[node]
            position = self._order.index(node)
            del self._order[position]
            self._next -= position < self._next

    def __len__(self) -> int:
        return len(self._order)

    def take(self) -> NodeId | None:
        """The next in turn, or None when there is nobody."""
        if not self._order:
            return None
        if self._next >= len(self._order):
            self._dice.shuffle(self._order)
            self._next = 0
        self._next += 1
        return self._order[self._next - 1]


class Prober:
    """The probes under way, the errands run for others, and this node's own health (0 is well)."""

    def __init__(self, timing: Timing, dice: Dice, now: float) -> None:
        self._timing = timing
        self._dice = dice
        self._probes: dict[int, Probe] = {}
        self._targets: dict[NodeId, Probe] = {}
        self._errands: dict[int, Errand] = {}
        self._round_trips_s: dict[NodeId, float] = {}
        self._sequence = dice.randrange(1 << 32)
        self.rotation = Rotation(dice)
        self.health = 0
        self._accused_at = float("-inf")
        self._is_half_way = True
        self._is_waking = False
        # Spread over the interval, so that nodes started together do not ask in step.
        self._next_round = now + timing.probe_s * dice.random()

    @property
    def next_deadline(self) -> float:
        """When something is due at the latest."""
        if not self._probes and not self._errands:
            return self._next_round
        waits = [probe.fails_at if probe.has_asked else probe.ask_at for probe in self._probes.values()]
        waits.extend(errand.ends_at for errand in self._errands.values())
        waits.append(self._next_round)
        return min(waits)

    def begin_round(self, now: float, wanting: Callable[[], list[NodeId]] = list) -> Probe | None:
        """Start the regular probe when its time has come. wanting: suspects against whom a voice is wanting."""
        if now < self._next_round:
            return None
        self._next_round = now + self._interval_s
        self._is_half_way = not self._is_half_way
        target = self._half_way(wanting()) if self._is_half_way else self.rotation.take()
        return self.begin(target, now) if target is not None else None

    def _half_way(self, wanting: list[NodeId]) -> NodeId | None:
        suspects = [node for node in wanting if node not in self._targets]
        if suspects:
            return self._dice.sample(suspects, 1)[0]
        return self.rotation.take() if len(self.rotation) > FEW else None

    def begin(self, target: NodeId, now: float, *, is_hinted: bool = False) -> Probe | None:
        """Start a probe of `target`, or None when one is under way, which then counts as hinted too."""
        if target in self._targets:
            if is_hinted and self._targets[target].hinted_at is None:
                self._targets[target].hinted_at = now
            return None
        least, stretch = self._timing_for(target), self.health + 1
        ask_at = now + max(least.probe_timeout_s, self._timing.probe_timeout_s * stretch)
        fails_at = now + max(least.probe_s, self._timing.probe_s * stretch)
        probe = Probe(target, self._number(), now, ask_at, fails_at, now if is_hinted else None)
        self._probes[probe.sequence] = self._targets[target] = probe
        return probe

    def call_off(self, target: NodeId) -> None:
        """End the probe of `target`, if one is under way, without a verdict."""
        if target in self._targets:
            self._end(self._targets[target])

    def to_ask_around(self, now: float) -> list[Probe]:
        """Probes whose direct ping has timed out; each is returned once."""
        late = [probe for probe in self._probes.values() if not probe.has_asked and probe.ask_at <= now]
        for probe in late:
            probe.has_asked = True
        return late

    def failed(self, now: float) -> list[Probe]:
        """Probes whose round is over without an answer; this node's health suffers where it heard no one."""
        over = [probe for probe in self._probes.values() if probe.fails_at <= now]
        self._is_waking = self._is_waking and not over
        for probe in over:
            self._end(probe)
            self.worsen(probe.missing_nacks if probe.helpers else 1)
        return over

    def acknowledge(self, sequence: int, peer: NodeId, now: float) -> Errand | Probe | None:
        """Take an Ack from `peer`: the probe that it ended, the errand to report on, or None."""
        errand = self._errands.get(sequence)
        if errand is not None and errand.target == peer:
            return self._errands.pop(sequence)
        probe = self._probes.get(sequence)
        if probe is None or (peer != probe.target and peer not in probe.helpers):
            return None
        self._end(probe)
        self._recover(now, probe)
        if peer == probe.target:
            self._measure(peer, now - probe.begun_at)
        return probe

    def deny(self, sequence: int, peer: NodeId, linked: bool) -> None:
        """Take a Nack from a helper that was asked."""
        probe = self._probes.get(sequence)
        if probe is not None and peer in probe.helpers:
            probe.helpers[peer] = linked

    def run_errand(self, target: NodeId, client: NodeId, client_sequence: int, now: float) -> int | None:
        """Note a ping to send for `client`; its sequence, or None when there are too many."""
        if len(self._errands) >= MAX_ERRANDS:
            return None
        sequence = self._number()
        # Shorter than the asker's own wait, so that the Nack arrives in time.
        ends_at = now + self._timing.probe_timeout_s * 0.8
        self._errands[sequence] = Errand(target, client, client_sequence, ends_at)
        return sequence

    def failed_errands(self, now: float) -> list[Errand]:
        """Errands that nobody answered."""
        over = [sequence for sequence, errand in self._errands.items() if errand.ends_at <= now]
        return [self._errands.pop(sequence) for sequence in over]

    def worsen(self, by: int = 1) -> None:
        """This node had a sign that it is itself unwell."""
        self.health = min(MAX_HEALTH, self.health + by)

    def accused(self, now: float) -> None:
        """Somebody says that this node did not answer. Liars may say so without end, so some of it is passed over."""
        if now - self._accused_at >= ACCUSED_AGAIN_S:
            self._accused_at = now
            self.worsen()

    def _recover(self, now: float, probe: Probe) -> None:
        """An answer came: in its own time, after a standstill, it shows that this node is quick again.

        By one step an answer, and the intervals of the steps before, it would be slow for three quarters of a minute.
        """
        if self._is_waking and now - probe.begun_at <= self._timing_for(probe.target).probe_timeout_s:
            self.health //= 2
            self._next_round, self._is_half_way = min(self._next_round, now + self._interval_s), True
            self._is_waking = self.health > 0
        else:
            self.health = max(0, self.health - 1)

    @property
    def _interval_s(self) -> float:
        """From one turn to the next, which is half-way to the next round."""
        return self._timing.probe_s * (self.health + 1) / 2

    def pause(self, now: float) -> None:
        """This node stood still: nothing under way means anything; hear what has queued up, then probe."""
        self._is_waking = True
        self._probes.clear()
        self._targets.clear()
        self._errands.clear()
        self.health = MAX_HEALTH
        self._next_round = now + self._timing.probe_timeout_s
        self._is_half_way = True

    def _timing_for(self, target: NodeId) -> Timing:
        """More patience for a member that is far away, so that distance is not taken for silence."""
        return WAN if self._round_trips_s.get(target, 0.0) > FAR_S else self._timing

    def _measure(self, target: NodeId, sample_s: float) -> None:
        average_s = self._round_trips_s.pop(target, sample_s)
        if len(self._round_trips_s) >= MAX_ROUND_TRIPS:
            del self._round_trips_s[next(iter(self._round_trips_s))]
        self._round_trips_s[target] = average_s + ROUND_TRIP_GAIN * (sample_s - average_s)

    def _number(self) -> int:
        self._sequence = (self._sequence + 1) % (1 << 52)
        return self._sequence

    def _end(self, probe: Probe) -> None:
        del self._probes[probe.sequence]
        del self._targets[probe.target]
