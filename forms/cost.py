"""What calls cost on one node, learnt from calls: seconds = base + per_work · work. Pure.

A line is fitted by recursive least squares with forgetting, kept as sums for each octave of sizes: an octave forgets
only as new calls of its own size come, so a thousand small calls do not make it forget what a large one cost. Errors
count relative to the time itself, since a call of a millisecond matters as much to its caller as one of a minute.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from forms.computed import Computed

REMEMBERED = 16.0
"""Calls of an octave that count; older ones fade."""
KEPT_PREDICTIONS = 64
SHORTEST_S = 50e-6
"""Below it the clock and the scheduler are measured, not the call."""
WARMTH = 0.3
"""How much of a new figure enters the running ones: cold starts, work of a byte."""


@dataclass(frozen=True, slots=True)
class Line:
    """Both at least 0. base_s: of a call without work."""

    base_s: float
    per_work_s: float

    def at(self, work: float) -> float:
        """Seconds that `work` takes."""
        return self.base_s + self.per_work_s * work


@dataclass(slots=True)
class _Octave:
    """Sums over the calls of one octave, each with its weight."""

    weight: float = 0.0
    work: float = 0.0
    work_work: float = 0.0
    seconds: float = 0.0
    work_seconds: float = 0.0

    def add(self, work: float, seconds: float, weight: float) -> None:
        keep = 1 - 1 / REMEMBERED
        self.weight = self.weight * keep + weight
        self.work = self.work * keep + weight * work
        self.work_work = self.work_work * keep + weight * work * work
        self.seconds = self.seconds * keep + weight * seconds
        self.work_seconds = self.work_seconds * keep + weight * work * seconds


class Fit:
    """A line that follows what it is told."""

    def __init__(self, known: Iterable[tuple[float, float]] = ()) -> None:
        """known: work and seconds to begin with, until calls of that size tell otherwise."""
        self._octaves: dict[int, _Octave] = {}
        self.line: Line | None = None
        for work, seconds in known:
            self.learn(work, seconds)

    @property
    def has_two_sizes(self) -> bool:
        """Whether the line says anything of sizes that it was not told of."""
        return len(self._octaves) > 1

    def learn(self, work: float, seconds: float) -> None:
        """Take in that `work` took `seconds`."""
        octave = math.frexp(work)[1] if work > 0 else 0
        # Over the actual time alone, slow calls would hardly count; over the expected, one that was held up by
        # something else would count for too much.
        expected = self.line.at(work) if self.line is not None and octave in self._octaves else seconds
        weight = 1 / (max(seconds, SHORTEST_S) * max(expected, SHORTEST_S))
        self._octaves.setdefault(octave, _Octave()).add(work, seconds, weight)
        self.line = self._solve()

    def _solve(self) -> Line:
        one = [
            sum(getattr(octave, name) for octave in self._octaves.values())
            for name in ("weight", "work", "work_work", "seconds", "work_seconds")
        ]
        weight, work, work_work, seconds, work_seconds = one
        spread = weight * work_work - work * work
        if spread > 1e-9 * weight * work_work:
            base = (seconds * work_work - work_seconds * work) / spread
            slope = (weight * work_seconds - work * seconds) / spread
            if base >= 0 and slope >= 0:
                return Line(base, slope)
            if slope < 0:
                return Line(seconds / weight, 0.0)
        # Calls of one size, or a base that would be negative: all of it is put down to the work.
        return Line(0.0, work_seconds / work_work) if work_work > 0 else Line(seconds / weight, 0.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction and what came of it."""

    work: float
    predicted_s: float
    actual_s: float

    @property
    def error(self) -> float:
        """Relative to the actual time."""
        return abs(self.predicted_s - self.actual_s) / max(self.actual_s, SHORTEST_S)


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls of one form cost on one node with one backend. is_text: in text, which costs more than in frames.

    cold_s: what the first call after a start takes on top.  calls: that it was learnt from.  error: median of the last
    predictions, relative to the actual times; None before there was any.
    """

    form: str
    is_text: bool
    backend: str
    line: Line
    cold_s: float = 0.0
    calls: int = 0
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call took. backend: what computed it, as far as is known."""

    form: str
    is_text: bool
    backend: str
    work: float
    seconds: float
    request_bytes: int
    is_cold: bool = False


class _Ledger:
    """What is known of one form, wire and backend."""

    def __init__(self) -> None:
        self.fit = Fit()
        self.cold_s = 0.0
        self.calls = 0
        self.work_per_byte = 0.0
        self.outcomes: deque[Outcome] = deque(maxlen=KEPT_PREDICTIONS)

    def learn(self, call: Spent) -> None:
        self.calls += 1
        self.work_per_byte = _followed(self.work_per_byte, call.work / max(1, call.request_bytes))
        line = self.fit.line
        if call.is_cold:
            # Before there is a line, all that can be said is that it took so long.
            self.cold_s = _followed(self.cold_s, max(0.0, call.seconds - (line.at(call.work) if line else 0.0)))
            return
        if line is not None and self.fit.has_two_sizes:
            self.outcomes.append(Outcome(call.work, line.at(call.work), call.seconds))
        self.fit.learn(call.work, call.seconds)

    def error(self) -> float | None:
        errors = sorted(one.error for one in self.outcomes)
        return errors[len(errors) // 2] if errors else None


class CostBook:
    """What was learnt of the calls of one place."""

    def __init__(self) -> None:
        self._ledgers: dict[tuple[str, bool, str], _Ledger] = {}
        self._latest: dict[tuple[str, bool], str] = {}

    def learn(self, done: Computed, request_bytes: int, *, is_text: bool) -> None:
        """Take in a call that a worker has finished. Errors teach nothing."""
        if done.backend is not None:
            spent = Spent(done.form, is_text, done.backend, done.work, done.seconds, request_bytes, done.is_cold)
            self.note(spent)

    def note(self, call: Spent) -> None:
        """Take in what a call took."""
        self._latest[call.form, call.is_text] = call.backend
        self._ledgers.setdefault((call.form, call.is_text, call.backend), _Ledger()).learn(call)

    def has_seen(self, form: str, *, is_text: bool) -> bool:
        """Whether there was such a call."""
        return (form, is_text) in self._latest

    def cost(self, form: str, *, is_text: bool) -> Cost | None:
        """Of the backend that computed such a call last; None before there was one that was warm."""
        backend = self._latest.get((form, is_text))
        return self._cost(form, is_text, backend) if backend is not None else None

    def work_of_bytes(self, form: str, request_bytes: int, *, is_text: bool) -> float | None:
        """What a request of so many bytes meant lately, for who does not want to read it."""
        backend = self._latest.get((form, is_text))
        if backend is None:
            return None
        return self._ledgers[form, is_text, backend].work_per_byte * request_bytes

    @property
    def current(self) -> tuple[Cost, ...]:
        """The costs that calls have now, by form."""
        keys = sorted(self._latest)
        return tuple(cost for form, is_text in keys if (cost := self.cost(form, is_text=is_text)) is not None)

    @property
    def all(self) -> tuple[Cost, ...]:
        """Those of backends that were used before, too."""
        return tuple(cost for key in sorted(self._ledgers) if (cost := self._cost(*key)) is not None)

    def outcomes(self, form: str, *, is_text: bool) -> tuple[Outcome, ...]:
        """The last predictions for the backend in use, and what came of them."""
        backend = self._latest.get((form, is_text))
        return tuple(self._ledgers[form, is_text, backend].outcomes) if backend is not None else ()

    def _cost(self, form: str, is_text: bool, backend: str) -> Cost | None:
        ledger = self._ledgers[form, is_text, backend]
        if ledger.fit.line is None:
            return None
        return Cost(form, is_text, backend, ledger.fit.line, ledger.cold_s, ledger.calls, ledger.error())


def slowness(ours: Iterable[Cost], theirs: Iterable[Cost]) -> float | None:
    """How many times as long as ours their calls take, by the forms that both have measured; None where there is none.

    A first guess for a form that they have not computed yet.
    """
    mine = {(cost.form, cost.is_text): cost.line.per_work_s for cost in ours}
    pairs = [(mine.get((cost.form, cost.is_text), 0.0), cost.line.per_work_s) for cost in theirs]
    ratios = [math.log(other / own) for own, other in pairs if own > 0 and other > 0]
    return math.exp(sum(ratios) / len(ratios)) if ratios else None


def scaled(cost: Cost, factor: float) -> Cost:
    """What the same form would cost on a node that is `factor` times as slow."""
    line = Line(cost.line.base_s * factor, cost.line.per_work_s * factor)
    return replace(cost, line=line, cold_s=cost.cold_s * factor, calls=0, error=None)


def _followed(so_far: float, new: float) -> float:
    return new if so_far == 0 else so_far + WARMTH * (new - so_far)
