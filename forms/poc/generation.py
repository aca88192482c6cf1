"""A prover's work: nonces in order, and those whose distance is small enough are kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy

from forms.poc.acceptance import threshold_for
from forms.poc.computer import Computer, Results
from forms.poc.nonces import Residue
from forms.poc.philox import Array
from forms.poc.profile import Profile


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one prover does in one epoch. key: of its inputs.  share: of the nonces that is kept, P(r)."""

    profile: Profile
    seed: bytes
    key: int
    share: float
    residue: Residue

    @property
    def threshold(self) -> float:
        return threshold_for(self.share, self.profile.outputs)


def generate(computer: Computer, assignment: Assignment, group: int, batch: int, start: int = 0) -> Iterator[Results]:
    """One group's results, batch by batch and without end: those that are kept."""
    threshold = numpy.float32(assignment.threshold)
    while True:
        results = computer.compute(assignment.key, assignment.residue.nonces(group, start, batch))
        yield chosen(results, results.distances < threshold)
        start += batch


def chosen(results: Results, which: Array) -> Results:
    """Those of `results` that a mask names."""
    return Results(results.nonces[which], results.distances[which], results.artefacts[which])


def joined(parts: Iterable[Results]) -> Results:
    """Several batches as one. ValueError when there are none."""
    kept = list(parts)
    return Results(
        numpy.concatenate([part.nonces for part in kept]),
        numpy.concatenate([part.distances for part in kept]),
        numpy.concatenate([part.artefacts for part in kept]),
    )
