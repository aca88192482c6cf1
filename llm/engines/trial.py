"""Whether a model's drafts pay, by what its answers took with them and without. Pure.

llama-server takes no such wish with a request, so that changing it means starting it again: it is compared once, with
some answers each way, and again when what stands of the drafts has changed, or after a while. In between it stays as
it is unless it is clearly worse: on above 1.05 times as fast, off again below 1.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

LEAST_TOKENS = 32
"""Of an answer that is compared: of a shorter one the time is mostly the first token's."""
SAMPLES = 5
ON_ABOVE, OFF_BELOW = 1.05, 1.0
LEAST_SHARE = 0.05
"""Of drafted tokens that stand: below it drafts cost more than they give, whatever else was measured."""
LONGEST_LOAD_S = 60.0
"""A model that takes longer to start is not started again for a comparison."""
RETRY_S, LONGEST_RETRY_S = 600.0, 86_400.0
RETRY_LOADS = 100

State = Literal["tried", "on", "off"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that was decoded alone. drafted, accepted: tokens."""

    tokens: int
    seconds: float
    drafted: int = 0
    accepted: int = 0


@dataclass(slots=True)
class Trial:
    """load_s: what the latest start took.  speedup: with drafts against without; 0 before both were measured.

    share: of the drafted tokens that stood lately.
    """

    load_s: float = 0.0
    state: State = "tried"
    speedup: float = 0.0
    _drafting: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    _plain: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    _share_then: float = 0.0
    _off_since: float = 0.0
    _offs: int = 0

    @property
    def share(self) -> float:
        drafted = sum(one.drafted for one in self._drafting)
        return sum(one.accepted for one in self._drafting) / drafted if drafted else 0.0

    def note(self, sample: Sample, *, is_drafting: bool, now: float) -> None:
        """An answer was given, with drafts or without."""
        if sample.tokens < LEAST_TOKENS or sample.seconds <= 0:
            return
        (self._drafting if is_drafting else self._plain).append(sample)
        if self.state == "tried":
            self._judge(now)
        elif self.state == "on" and is_drafting and self._expected() < OFF_BELOW:
            # What stands has changed: compare anew, with plain answers first.
            self.state = "tried"
            self._plain.clear()

    def wants_drafts(self, now: float) -> bool:
        """How the engine should run; asked while it is idle."""
        match self.state:
            case "on":
                return True
            case "off":
                if now - self._off_since < self._rest_s():
                    return False
                self.state = "tried"
                self._drafting.clear()
                return True
            case "tried":
                return len(self._drafting) < SAMPLES

    def words(self) -> str:
        """For people."""
        stand = f"{self.share:.0%} of drafted tokens stand"
        match self.state:
            case "tried":
                done = f"{len(self._drafting)} answers with drafts, {len(self._plain)} without"
                return f"being compared: {done}, of {SAMPLES} each"
            case "on" | "off" if self.speedup:
                return f"{self.state}: {self.speedup:.2f} times as fast with them, {stand}"
            case _:
                return f"{self.state}: {stand}"

    def _judge(self, now: float) -> None:
        if len(self._drafting) < SAMPLES:
            return
        # N-grams that never came again cost nothing either.
        is_hopeless = self.share < LEAST_SHARE and sum(one.drafted for one in self._drafting) >= LEAST_TOKENS
        if self.load_s > LONGEST_LOAD_S or is_hopeless:
            self._enter("off" if is_hopeless else "on", now)
        elif len(self._plain) == SAMPLES:
            self.speedup = _rate(self._drafting) / _rate(self._plain)
            self._enter("on" if self.speedup > ON_ABOVE else "off", now)

    def _enter(self, state: State, now: float) -> None:
        self.state, self._share_then = state, self.share
        if state == "off":
            self._off_since, self._offs = now, self._offs + 1
        else:
            self._offs = 0

    def _expected(self) -> float:
        """The speed-up now, when it changes as the tokens of a block do."""
        if not self.speedup:
            return 1.0 if self.share >= LEAST_SHARE else 0.0
        return self.speedup * (1 + self.share) / (1 + self._share_then)

    def _rest_s(self) -> float:
        doubled = RETRY_S * 2.0 ** min(20, self._offs - 1)
        return min(LONGEST_RETRY_S, max(doubled, RETRY_LOADS * self.load_s))


def _rate(samples: deque[Sample]) -> float:
    """Tokens a second, of the one in the middle."""
    return statistics.median(one.tokens / one.seconds for one in samples)
