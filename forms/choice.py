"""Where a call would finish first: what it would take here and there, by what is known of nodes and ways. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from forms.cost import Cost

Target = TypeVar("Target", bound=Hashable)

TIE = 0.02
"""Predictions that differ by less say the same."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be known of a call before it runs. bytes_out: about, where the reply is text."""

    form: str
    is_text: bool
    work: float
    bytes_in: int
    bytes_out: int

    @property
    def octave(self) -> int:
        """Calls of one octave are taken to be of one size."""
        return math.frexp(self.work)[1]


@dataclass(frozen=True, slots=True)
class Way:
    """What carrying takes: seconds there and back, and for each byte."""

    round_trip_s: float = 0.0
    up_s_per_byte: float = 0.0
    down_s_per_byte: float = 0.0

    def carrying_s(self, shape: Shape) -> float:
        """For the request and the reply of such a call."""
        return self.round_trip_s + shape.bytes_in * self.up_s_per_byte + shape.bytes_out * self.down_s_per_byte


NO_WAY = Way()
"""To this very node."""


@dataclass(frozen=True, slots=True)
class Option(Generic[Target]):
    """A place that could compute a call. cost: None where nobody knows it yet.  queue_s: until its turn would come.

    stretch: how many times what it says its calls, or such calls, took of late.
    """

    target: Target
    cost: Cost | None
    way: Way = NO_WAY
    queue_s: float = 0.0
    is_cold: bool = False
    vram_free_bytes: int = 0
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class Choice(Generic[Target]):
    """A place and when it would be done; None where that cannot be said."""

    target: Target
    finish_s: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a call went and why. others: what it would have taken elsewhere, by name.  actual_s: None: it failed."""

    shape: Shape
    place: str
    predicted_s: float | None
    others: dict[str, float | None]
    actual_s: float | None


def predict(shape: Shape, option: Option[Target]) -> float | None:
    """Seconds from now to the whole reply."""
    if option.cost is None:
        return None
    cold_s = option.cost.cold_s if option.is_cold else 0.0
    there_s = option.queue_s + option.cost.line.at(shape.work) + cold_s
    return option.stretch * (option.way.carrying_s(shape) + there_s)


def rank(shape: Shape, options: Iterable[Option[Target]]) -> list[Choice[Target]]:
    """All of them, the smallest predicted finish first; ties go to more free VRAM, then to the order given.

    Places whose cost is unknown come last, more free VRAM first.
    """
    predicted = [(option, predict(shape, option)) for option in options]
    known = sorted(((option, finish) for option, finish in predicted if finish is not None), key=lambda pair: pair[1])
    unknown = sorted((option for option, finish in predicted if finish is None), key=lambda one: -one.vram_free_bytes)
    choices: list[Choice[Target]] = []
    while known:
        tied = [pair for pair in known if pair[1] <= known[0][1] * (1 + TIE)]
        known = known[len(tied) :]
        tied.sort(key=lambda pair: -pair[0].vram_free_bytes)
        choices += [Choice(option.target, finish) for option, finish in tied]
    return choices + [Choice(option.target, None) for option in unknown]
