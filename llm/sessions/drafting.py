"""Whether drafting pays, and how many tokens at a time. Pure.

A block of k drafted tokens costs its verification, the drafter's time and, where the drafter is on another host, a
round trip; it gives one token and those of the k that are accepted. Drafting is on while the best k is expected to be
faster than plain decoding by a margin, off after some blocks that were not, and tried again with two blocks now and
then. Where even drafts that are always right and come at once would not pay, it is never on: the model decodes so fast
that there is nothing to hide a draft behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

LEAST_SPEEDUP = 1.05
MOST_TOKENS = 8
FIRST_CHANCE = 2 / 3
"""That a drafted token stands, where nothing is known of the drafter."""
LOSSES = 4
PROBE_BLOCKS = 2
PROBE_EVERY_S = 5.0
LONGEST_REST_S = 80.0
"""Each probe that loses doubles the rest before the next: far from its drafter a slow model lost 13 % by probing."""
MEMORY = 0.9
"""What an accepted or refused token weighs after one block more."""


class State(Enum):
    """off: it lost lately and is tried again later.  never: it cannot win with these costs."""

    ON = "on"
    OFF = "off"
    NEVER = "never"


def no_time(count: int) -> float:
    """For drafts that cost nothing, as n-grams do."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. plain_s: one token without a draft.  verify_s: a block with so many drafted tokens.  draft_s: drafting
    them.  round_trip_s: to the drafter and back; 0 for one in this process.
    """

    plain_s: float
    verify_s: Callable[[int], float]
    draft_s: Callable[[int], float] = no_time
    round_trip_s: float = 0.0

    def speedup(self, accepted: float, count: int) -> float:
        """S(k): how many times as fast as plain decoding, when `accepted` of `count` tokens stand on average."""
        return (1 + accepted) * self.plain_s / (self.verify_s(count) + self.draft_s(count) + self.round_trip_s)


def break_even_round_trip_s(tokens_per_block: float, plain_s: float, block_s: float) -> float:
    """RTT*: the round trip at which drafting is as fast as plain decoding; below 0 it never is."""
    return tokens_per_block * plain_s - block_s


def expected_accepted(chance: float, count: int) -> float:
    """Of `count` drafted tokens, when each stands with `chance` after those before it stood."""
    return sum(chance**place for place in range(1, count + 1))


@dataclass(frozen=True, slots=True)
class Choice:
    """count: tokens to draft; 0 to decode alone.  speedup: that the best count is expected to give."""

    count: int
    state: State
    speedup: float

    @property
    def reason(self) -> str:
        match self.state:
            case State.ON:
                return f"{self.count} tokens at a time should be {self.speedup:.2f} times as fast"
            case State.OFF:
                return f"the best block would be {self.speedup:.2f} times as fast as none; it is tried again later"
            case State.NEVER:
                return f"even drafts that are always right would be {self.speedup:.2f} times as fast as none"


@dataclass(slots=True)
class Drafting:
    """One session's controller. It begins with two of three tokens standing, or with what others made of it."""

    most: int = MOST_TOKENS
    state: State = State.ON
    speedup: float = 1.0
    _stood: float = 2.0
    _fell: float = 1.0
    _losses: int = 0
    _off_since: float = field(default=0.0)
    _probing: int = 0
    _has_begun: bool = False
    _rest_s: float = PROBE_EVERY_S

    @classmethod
    def unproven(cls, chance: float = FIRST_CHANCE) -> Drafting:
        """For a drafter of which little is known, `chance` that a token of it stands: its first blocks are a probe."""
        return cls(state=State.OFF, _stood=3 * chance, _fell=3 * (1 - chance), _off_since=float("-inf"))

    @classmethod
    def after(cls, chance: float) -> Drafting:
        """For a session of which nothing is known yet, where `chance` of the drafted tokens stood in others."""
        return cls(_stood=3 * chance, _fell=3 * (1 - chance))

    @property
    def chance(self) -> float:
        """That the next drafted token stands."""
        return self._stood / (self._stood + self._fell)

    def choose(self, costs: Costs, now: float) -> Choice:
        """What to do with the block at hand."""
        if self.rests(now):
            return Choice(0, State.OFF, self.speedup)
        ideal, longest = max((costs.speedup(count, count), count) for count in range(1, self.most + 1))
        if ideal <= LEAST_SPEEDUP:
            self.state, self.speedup = State.NEVER, ideal
            return Choice(0, State.NEVER, ideal)
        if self.state is State.NEVER:
            self._turn_off(now)
        self.speedup, count = self._best(costs)
        if not self._has_begun and self.speedup <= LEAST_SPEEDUP and self.state is State.ON:
            self._turn_off(now)
        self._has_begun = True
        if self.rests(now):
            return Choice(0, State.OFF, self.speedup)
        if self.state is State.OFF and not self._probing:
            self._probing = PROBE_BLOCKS
        # A probe of one token each would not show that long blocks pay.
        return Choice(longest if self._probing else count, self.state, self.speedup)

    def note(self, drafted: int, accepted: int, costs: Costs, now: float) -> None:
        """A block was verified."""
        self._stood = MEMORY * self._stood + accepted
        self._fell = MEMORY * self._fell + (accepted < drafted)
        self.speedup, _ = self._best(costs)
        wins = self.speedup > LEAST_SPEEDUP
        self._judge(now, wins=wins)

    def miss(self, now: float) -> None:
        """A block's draft did not come in time."""
        self._judge(now, wins=False)

    def best(self, costs: Costs) -> int:
        """How many tokens to draft at a time, if any."""
        return self._best(costs)[1]

    def rests(self, now: float) -> bool:
        """Whether nothing is to be drafted, whatever it would cost."""
        return self.state is State.OFF and not self._probing and now - self._off_since < self._rest_s

    def _judge(self, now: float, *, wins: bool) -> None:
        if self._probing:
            self._probing -= 1
            if self._probing:
                return
            if not wins:
                self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
                self._turn_off(now)
                return
            self.state, self._losses, self._rest_s = State.ON, 0, PROBE_EVERY_S
            return
        self._losses = 0 if wins else self._losses + 1
        if self._losses >= LOSSES:
            self._turn_off(now)

    def _turn_off(self, now: float) -> None:
        self.state, self._off_since, self._losses = State.OFF, now, 0

    def _best(self, costs: Costs) -> tuple[float, int]:
        counts = range(1, self.most + 1)
        return max((costs.speedup(expected_accepted(self.chance, count), count), count) for count in counts)


MOST_MEASURED = 64
"""Rows of a batch of which each size is remembered by itself."""
RECENT, ENOUGH = 33, 3
"""Measurements of one size that are kept, and from how many on they speak for themselves. On a busy machine the first
tokens after a wait are three times as fast as those of a long answer (3.5 and 11 ms): nine of them misled.
"""


FREAK = 4.0
"""Times the median; beyond it a measurement counts no more. Now and then somebody else has the core for long."""


def typical(seconds: Sequence[float]) -> float:
    """The mean, freaks cut: a median would leave out what a busy machine costs on most days (17 % of a block)."""
    most = FREAK * median(seconds)
    return sum(min(one, most) for one in seconds) / len(seconds)


@dataclass(slots=True)
class BatchTimes:
    """How long a batch takes by its rows: a line through what was measured, later ones weighing more.

    The line is what a session explores sizes with. What was measured of one size is kept as well, for whoever pays for
    more than the batch: a drafter elsewhere.
    """

    _weight: float = 0.0
    _rows: float = 0.0
    _seconds: float = 0.0
    _rows_squared: float = 0.0
    _product: float = 0.0
    _latest: dict[int, deque[float]] = field(default_factory=dict)
    _typical: dict[int, float] = field(default_factory=dict)

    def note(self, rows: int, seconds: float) -> None:
        if rows <= MOST_MEASURED:
            latest = self._latest.setdefault(rows, deque(maxlen=RECENT))
            latest.append(seconds)
            if len(latest) >= ENOUGH:
                self._typical[rows] = typical(latest)
        keep = 0.98
        self._weight = keep * self._weight + 1
        self._rows = keep * self._rows + rows
        self._seconds = keep * self._seconds + seconds
        self._rows_squared = keep * self._rows_squared + rows * rows
        self._product = keep * self._product + rows * seconds

    def measured(self, rows: int) -> float:
        """Seconds: what is typical of the latest with so many rows; the line where too few were measured."""
        if rows not in self._typical:
            return self.expect(rows)
        # Noise may say otherwise: no batch is faster for having more rows.
        return max(self._typical[rows], self._typical[min(self._typical)])

    def expect(self, rows: int) -> float:
        """Seconds; 1 before anything was measured, so that more rows seem to cost nothing."""
        if not self._weight:
            return 1.0
        mean_rows, mean_s = self._rows / self._weight, self._seconds / self._weight
        spread = self._rows_squared / self._weight - mean_rows**2
        slope = (self._product / self._weight - mean_rows * mean_s) / spread if spread > 1e-9 else 0.0
        # Noise may tilt the line: no batch is free, and none is faster for having more rows.
        return max(mean_s + max(0.0, slope) * (rows - mean_rows), 0.05 * mean_s)
