"""How calls of one size differ from the line that a place tells for all sizes, learnt by whoever asked. Pure.

A line knows nothing of caches: sorting four million numbers takes half as long again for each of them as sorting one
million does. What a place says of itself is its own to fit; this is what its callers see, carrying included.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from forms.choice import Shape

Target = TypeVar("Target", bound=Hashable)

WARMTH = 0.15
"""How far each call moves what is known, once there were some; the first ones count for more."""
FIRST_WARMTH = 0.5
MOST_OFF = 2.0
"""A call that took longer counts as this: it was held up by something else."""
FORGOTTEN_S = 300.0
MOST_KEPT = 4096
"""Places times forms times sizes; the ones longest untold go."""

Key: TypeAlias = tuple[Target, str, bool, int, int]


@dataclass(frozen=True, slots=True)
class _Habit:
    """factor: of what the place says.  told: when a call last said so.  calls: how many did."""

    factor: float = 1.0
    told: float = -math.inf
    calls: int = 0


@dataclass(slots=True)
class HabitBook(Generic[Target]):
    """Of each place, by form, wire and octaves of work and of bytes: how many times what it says its calls take."""

    _habits: dict[Key[Target], _Habit] = field(default_factory=dict)

    def factor(self, target: Target, shape: Shape, now: float) -> float:
        """What such a call should take there, as a multiple of what the place says; 1 where nothing is known."""
        return self._habit(_key(target, shape), now).factor

    def learn(self, target: Target, shape: Shape, ratio: float, now: float) -> None:
        """Take in that such a call took so many times what the place says."""
        key = _key(target, shape)
        habit = self._habit(key, now)
        bounded = min(MOST_OFF, max(1 / MOST_OFF, ratio))
        weight = max(WARMTH, FIRST_WARMTH / (habit.calls / 2 + 1))  # a half, a third, a quarter …
        self._habits.pop(key, None)
        self._habits[key] = _Habit(habit.factor ** (1 - weight) * bounded**weight, now, habit.calls + 1)
        if len(self._habits) > MOST_KEPT:
            del self._habits[next(iter(self._habits))]

    def _habit(self, key: Key[Target], now: float) -> _Habit:
        habit = self._habits.get(key, _NONE)
        return habit if now - habit.told < FORGOTTEN_S else _NONE


_NONE = _Habit()


def _key(target: Target, shape: Shape) -> Key[Target]:
    # Operations of one form may be alike in work and carry a hundred times the bytes.
    return target, shape.form, shape.is_text, shape.octave, math.frexp(shape.bytes_in)[1]
