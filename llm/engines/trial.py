"""Whether a model's drafts pay, by what its answers took with them and without. Pure.

llama-server takes no such wish with a request, so that changing it means starting it again: it is compared once, with
some answers each way, and again when what stands of the drafts has changed, or after a while. In between it stays as
it is unless it is clearly worse: on above 1.05 times as fast, off again below 1. What is compared is what a step takes
and how many tokens it gives (`sessions.drafting` has the formula), not whole answers, whose drafts stand unlike well.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

LEAST_TOKENS = 32
"""Of an answer that is compared: of a shorter one the time is mostly the first token's."""
SAMPLES, MOST_SAMPLES = 5, 200
LEAST_SECONDS = 5.0
"""Of decoding that is compared each way, or MOST_SAMPLES answers: a busy machine is another one every other second."""
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

    @property
    def steps(self) -> int:
        """Times that the model decoded."""
        return max(1, self.tokens - self.accepted)


@dataclass(slots=True)
class Trial:
    """load_s: what the latest start took.  speedup: with drafts against without; 0 before both were measured.

    share: of the drafted tokens that stood lately.
    """

    load_s: float = 0.0
    state: State = "tried"
    speedup: float = 0.0
    _drafting: deque[Sample] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    _plain: deque[Sample] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    _tokens_then: float = 1.0
    _off_since: float = 0.0
    _offs: int = 0

    @property
    def share(self) -> float:
        drafted = sum(one.drafted for one in self._latest)
        return sum(one.accepted for one in self._latest) / drafted if drafted else 0.0

    @property
    def _latest(self) -> list[Sample]:
        return list(self._drafting)[-SAMPLES:]

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
                return not _is_enough(self._drafting)

    @property
    def stand(self) -> str:
        """How many of its proposals do, in words."""
        return f"{self.share:.0%} of drafted tokens stand"

    def words(self) -> str:
        """For people."""
        match self.state:
            case "tried":
                done = f"{len(self._drafting)} answers with drafts, {len(self._plain)} without"
                return f"being compared: {done}"
            case "on" | "off" if self.speedup:
                return f"{self.state}: {self.speedup:.2f} times as fast with them, {self.stand}"
            case _:
                return f"{self.state}: {self.stand}"

    def _judge(self, now: float) -> None:
        if not _is_enough(self._drafting):
            return
        # N-grams that never came again cost nothing either.
        is_hopeless = self.share < LEAST_SHARE and sum(one.drafted for one in self._drafting) >= LEAST_TOKENS
        if self.load_s > LONGEST_LOAD_S or is_hopeless:
            self._enter("off" if is_hopeless else "on", now)
        elif _is_enough(self._plain):
            self.speedup = _tokens_per_step(self._drafting) * _step_s(self._plain) / _step_s(self._drafting)
            self._enter("on" if self.speedup > ON_ABOVE else "off", now)

    def _enter(self, state: State, now: float) -> None:
        self.state, self._tokens_then = state, _tokens_per_step(self._drafting)
        if state == "off":
            self._off_since, self._offs = now, self._offs + 1
        else:
            self._offs = 0

    def _expected(self) -> float:
        """The speed-up now, when it changes as the tokens of a block do."""
        if not self.speedup:
            return 1.0 if self.share >= LEAST_SHARE else 0.0
        return self.speedup * _tokens_per_step(self._latest) / self._tokens_then

    def _rest_s(self) -> float:
        doubled = RETRY_S * 2.0 ** min(20, self._offs - 1)
        return min(LONGEST_RETRY_S, max(doubled, RETRY_LOADS * self.load_s))


def _is_enough(samples: deque[Sample]) -> bool:
    took_s = sum(one.seconds for one in samples)
    return len(samples) >= SAMPLES and (took_s >= LEAST_SECONDS or len(samples) == MOST_SAMPLES)


def _tokens_per_step(samples: Iterable[Sample]) -> float:
    """A step decodes one token, or a block of which some are accepted."""
    pairs = [(one.tokens, one.steps) for one in samples]
    return sum(tokens for tokens, _ in pairs) / sum(steps for _, steps in pairs)


def _step_s(samples: deque[Sample]) -> float:
    """What a step takes where little else held it up: by the quicker quarter, for others make it only slower."""
    return statistics.quantiles((one.seconds / one.steps for one in samples), n=4)[0]
