"""How calls of one size differ from the line that a place tells for all sizes, learnt by whoever asked. Pure.

A line knows nothing of caches: sorting four million numbers takes half as long again for each of them as sorting one
million does. What a place says of itself is its own to fit; this is what its callers see, carrying included.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forms.choice import Shape

Target = TypeVar("Target", bound=Hashable)

WARMTH = 0.15
"""How far each call moves what is known."""
MOST_OFF = 2.0
"""A call that took longer counts as this: it was held up by something else."""
FORGOTTEN_S = 300.0
MOST_KEPT = 4096
"""Places times forms times sizes; the ones longest untold go."""


@dataclass(slots=True)
class HabitBook(Generic[Target]):
    """Of each place, by form, wire and octave of work: how many times what it says its calls take."""

    _factors: dict[tuple[Target, str, bool, int], tuple[float, float]] = field(default_factory=dict)

    def factor(self, target: Target, shape: Shape, now: float) -> float:
        """What such a call should take there, as a multiple of what the place says; 1 where nothing is known."""
        factor, told = self._factors.get(_key(target, shape), (1.0, now))
        return factor if now - told < FORGOTTEN_S else 1.0

    def learn(self, target: Target, shape: Shape, ratio: float, now: float) -> None:
        """Take in that such a call took so many times what the place says."""
        before, key = self.factor(target, shape, now), _key(target, shape)
        bounded = min(MOST_OFF, max(1 / MOST_OFF, ratio))
        self._factors.pop(key, None)
        self._factors[key] = before ** (1 - WARMTH) * bounded**WARMTH, now
        if len(self._factors) > MOST_KEPT:
            del self._factors[next(iter(self._factors))]


def _key(target: Target, shape: Shape) -> tuple[Target, str, bool, int]:
    return target, shape.form, shape.is_text, shape.octave
