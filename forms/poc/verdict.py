"""From how far a prover's values lie from the verifier's own to a judgement. Pure.

Honest hosts differ by rounding: in half precision by up to 2.5e-3 in an artefact, where int8 differs by 2.7e-2 and a
layer left out by 0.25 (poc.md §4.1). A share of one in a thousand may stray further than `SOFT` without blame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from forms.poc.acceptance import binomial_tail
from forms.poc.philox import Array

SOFT = 0.01
HARD = 0.15
HONEST_SHARE = 1e-3
LEAST_CHANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """soft, hard: samples beyond each bound.  chance: of so many at an honest prover.  worst: the largest error."""

    samples: int
    soft: int
    hard: int
    chance: float
    worst: float

    @property
    def is_honest(self) -> bool:
        return self.hard == 0 and self.chance >= LEAST_CHANCE


def judge(errors: Array) -> Verdict:
    """Weigh the samples' errors; what is no number is as wrong as can be."""
    soft, hard = int(numpy.sum(~(errors <= SOFT))), int(numpy.sum(~(errors <= HARD)))
    worst = float(numpy.max(numpy.nan_to_num(errors, nan=numpy.inf, posinf=numpy.inf), initial=0.0))
    return Verdict(len(errors), soft, hard, binomial_tail(soft, len(errors), HONEST_SHARE), worst)


def errors_between(outputs: int, said: tuple[Array, Array], found: tuple[Array, Array]) -> Array:
    """How far two (distances, artefacts) lie apart: the larger of the artefacts' and the distances' errors.

    Both in units of one coordinate of sqrt(outputs) times the result. The artefact is the strong one: a wrong
    distance may lie close by luck, and a shortened one alone is seen only by itself.
    """
    with numpy.errstate(invalid="ignore", over="ignore"):
        apart = said[1].astype(numpy.float64) - found[1].astype(numpy.float64)
        artefact = numpy.sqrt((apart**2).mean(axis=1))
        distance = numpy.sqrt(outputs) * numpy.abs(said[0].astype(numpy.float64) - found[0].astype(numpy.float64))
    return numpy.maximum(artefact, distance)
