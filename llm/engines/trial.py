"""Whether a model's drafts pay, by what its answers took with them and without. Pure.

llama-server takes no such wish with a request, so that changing it means starting it again: it is compared once
(`llm.engines.comparison`), and again after a while, later and later. In between it stays as it is unless it is clearly
worse: on above 1.05 times as fast, off again below 1. What is unclear stays off. One comparison starts the engine at
most `MOST_PAIRS` times and once more for what it found.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from llm.engines.comparison import LEAST_TOKENS, Comparison, Sample, tokens_per_step

LATEST = 10
OFF_BELOW = 1.0
LEAST_SHARE, LEAST_DRAFTED = 0.05, 128
"""Of drafted tokens that stand, of so many: below it drafts cost more than they give, whatever else is measured."""
LONGEST_LOAD_S = 60.0
"""A model that takes longer to start is not started again for a comparison."""
MOST_DEATHS = 2
RETRY_S, LONGEST_RETRY_S = 600.0, 86_400.0
RETRY_LOADS = 100
STEADY_S = 3600.0
"""On for so long, it was right: the next rest is the first again."""

State = Literal["tried", "on", "off", "broken"]


@dataclass(slots=True)
class Trial:
    """load_s: what the latest start took.  speedup: with drafts against without; 0 before both were measured.

    share: of the drafted tokens that stood lately.
    """

    load_s: float = 0.0
    state: State = "tried"
    speedup: float = 0.0
    is_unclear: bool = False
    _latest: deque[Sample] = field(default_factory=lambda: deque(maxlen=LATEST))
    _comparison: Comparison = field(default_factory=Comparison)
    _tokens_then: float = 1.0
    _since: float = 0.0
    _offs: int = 0
    _deaths: int = 0

    @property
    def share(self) -> float:
        drafted = sum(one.drafted for one in self._latest)
        return sum(one.accepted for one in self._latest) / drafted if drafted else 0.0

    def note(self, sample: Sample, *, is_drafting: bool, now: float) -> None:
        """An answer was given, with drafts or without."""
        if is_drafting:
            self._deaths = 0
        if sample.tokens < LEAST_TOKENS or sample.seconds <= 0:
            return
        if is_drafting:
            self._latest.append(sample)
        if self.state == "tried" and is_drafting is self._comparison.is_drafting:
            self._comparison.load_s = self.load_s
            self._comparison.note(sample)
            self._judge(now)
        elif self.state == "on" and is_drafting and len(self._latest) == LATEST and self._expected() < OFF_BELOW:
            # What stands has changed.
            self._enter("off", now)

    def died(self) -> None:
        """The engine ended by itself while it drafted: of some drafters llama-server says so only by dying."""
        self._deaths += 1
        if self._deaths >= MOST_DEATHS:
            self.state = "broken"

    def wants_drafts(self, now: float) -> bool:
        """How the engine should run; asked while it is idle."""
        match self.state:
            case "on":
                return True
            case "broken":
                return False
            case "off":
                if now - self._since < self._rest_s():
                    return False
                self.state, self._comparison = "tried", Comparison()
                self._latest.clear()
                return True
            case "tried":
                return self._comparison.is_drafting

    def words(self) -> str:
        """For people."""
        stand = self.stand
        match self.state:
            case "tried":
                return f"being compared: {self._progress()}"
            case "broken":
                return f"off: with them llama-server ended by itself {self._deaths} times"
            case "off" if self.is_unclear:
                return f"off: whether they are faster is unclear on this host ({self.speedup:.2f} times), {stand}"
            case "on" | "off" if self.speedup:
                return f"{self.state}: {self.speedup:.2f} times as fast with them, {stand}"
            case _:
                return f"{self.state}: {stand}"

    @property
    def stand(self) -> str:
        """How many drafted tokens stand, for people."""
        if not any(one.drafted for one in self._latest):
            return "nothing was drafted lately"
        return f"{self.share:.0%} of drafted tokens stand"

    def _progress(self) -> str:
        speedups = self._comparison.speedups
        if not speedups:
            return f"{len(self._comparison.drafting)} answers with drafts so far"
        return f"{self._comparison.speedup:.2f} times as fast with them by {len(speedups)} of at least 3 pairs"

    def _judge(self, now: float) -> None:
        comparison = self._comparison
        drafted = sum(one.drafted for one in comparison.drafting)
        if drafted >= LEAST_DRAFTED and self.share < LEAST_SHARE:
            self.speedup, self.is_unclear = 0.0, False
            self._enter("off", now)
        elif self.load_s > LONGEST_LOAD_S:
            if comparison.is_first_done:
                self._enter("on", now)
        elif (verdict := comparison.verdict()) is not None:
            self.speedup, self.is_unclear = comparison.speedup, verdict == "unclear"
            self._enter("on" if verdict == "pays" else "off", now)

    def _enter(self, state: Literal["on", "off"], now: float) -> None:
        if state == "off":
            was_right = self.state == "on" and now - self._since > STEADY_S
            self._offs = 1 if was_right else self._offs + 1
        else:
            self._tokens_then = tokens_per_step(self._comparison.drafting)
        self.state, self._since = state, now

    def _expected(self) -> float:
        """The speed-up now, when it changes as the tokens of a block do."""
        if not self.speedup:
            return 1.0 if self.share >= LEAST_SHARE else 0.0
        return self.speedup * tokens_per_step(self._latest) / self._tokens_then

    def _rest_s(self) -> float:
        doubled = RETRY_S * 2.0 ** min(20, self._offs - 1)
        return min(LONGEST_RETRY_S, max(doubled, RETRY_LOADS * self.load_s))
