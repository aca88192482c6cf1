"""Answers with drafts against answers without, in turns, so that other work on the host meets both alike. Pure.

Rounds of a few answers are given the one way, then the other: with, without, without, with, with and so on, for each
change starts the engine again. Two rounds, one of each, make a pair; what counts is how a pair's two compare, and that
pairs agree. Load that comes in the middle of a pair spoils that pair alone.

Compared is what a step takes and how many tokens it gives (`sessions.drafting` has the formula), not whole answers,
whose drafts stand unlike well.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

LEAST_TOKENS = 32
"""Of an answer that is compared: of a shorter one the time is mostly the first token's."""
ROUND_ANSWERS, MOST_ROUND_ANSWERS = 3, 40
LEAST_ROUND_S = 1.0
LOAD_SHARE = 0.5
"""A round decodes for at least that share of what starting takes, or MOST_ROUND_ANSWERS answers."""
LEAST_PAIRS, MOST_PAIRS = 3, 7
MOST_RESTARTING_S = 60.0
"""Within one comparison; LEAST_PAIRS are compared all the same."""
ON_ABOVE = 1.05

Verdict = Literal["pays", "loses", "unclear"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that was decoded alone. seconds: of the engine's CPUs where it computes on them, else of the clock.

    drafted, accepted: tokens.
    """

    tokens: int
    seconds: float
    drafted: int = 0
    accepted: int = 0

    @property
    def steps(self) -> int:
        """Times that the model decoded."""
        return max(1, self.tokens - self.accepted)


@dataclass(slots=True)
class Round:
    """Answers one after another, all with drafts or all without."""

    is_drafting: bool
    samples: list[Sample] = field(default_factory=list)

    def is_full(self, least_s: float) -> bool:
        took_s = sum(one.seconds for one in self.samples)
        count = len(self.samples)
        return count >= ROUND_ANSWERS and (took_s >= least_s or count >= MOST_ROUND_ANSWERS)

    @property
    def step_s(self) -> float:
        """What a step takes where little else held it up: by the quicker quarter, for others make it only slower."""
        return statistics.quantiles((one.seconds / one.steps for one in self.samples), n=4)[0]


@dataclass(slots=True)
class Comparison:
    """load_s: what starting the engine takes."""

    load_s: float = 0.0
    rounds: list[Round] = field(default_factory=lambda: [Round(is_drafting=True)])

    @property
    def is_drafting(self) -> bool:
        """How the next answer should be given."""
        return self.rounds[-1].is_drafting

    def note(self, sample: Sample) -> None:
        """An answer was given as it should be."""
        latest = self.rounds[-1]
        latest.samples.append(sample)
        if latest.is_full(max(LEAST_ROUND_S, LOAD_SHARE * self.load_s)):
            # With, without, without, with: a pair ends as the next begins.
            self.rounds.append(Round(is_drafting=len(self.rounds) % 4 in (0, 3)))

    @property
    def drafting(self) -> list[Sample]:
        """The answers with drafts."""
        return [sample for one in self.rounds if one.is_drafting for sample in one.samples]

    @property
    def is_first_done(self) -> bool:
        return len(self.rounds) > 1

    @property
    def speedups(self) -> list[float]:
        """How many times as fast it was with drafts, in each pair so far."""
        done = self.rounds[:-1]
        gain = tokens_per_step(self.drafting)
        pairs = [sorted(pair, key=lambda it: it.is_drafting) for pair in zip(done[::2], done[1::2], strict=False)]
        return [gain * plain.step_s / drafting.step_s for plain, drafting in pairs]

    @property
    def speedup(self) -> float:
        """The middle one; 0 before there is any."""
        return statistics.median(self.speedups or [0.0])

    @property
    def most_pairs(self) -> int:
        return max(LEAST_PAIRS, min(MOST_PAIRS, int(MOST_RESTARTING_S / max(1.0, self.load_s))))

    def verdict(self) -> Verdict | None:
        """What the pairs say together; None while more are needed, and within a round.

        Three that agree decide, of five one may say otherwise, of seven two.
        """
        if self.rounds[-1].samples:
            return None
        speedups = self.speedups
        pays = sum(one > ON_ABOVE for one in speedups)
        loses, dissent = len(speedups) - pays, (len(speedups) - LEAST_PAIRS) // 2
        if dissent >= 0 and min(pays, loses) <= dissent:
            return "pays" if pays > loses else "loses"
        return "unclear" if len(speedups) >= self.most_pairs else None


def tokens_per_step(samples: Iterable[Sample]) -> float:
    """A step decodes one token, or a block of which some are accepted; 1 without samples."""
    pairs = [(one.tokens, one.steps) for one in samples]
    return sum(tokens for tokens, _ in pairs) / sum(steps for _, steps in pairs) if pairs else 1.0
