"""Its validation, with what it leaves out: nothing received is ever compared with what was computed again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from forms.poc.acceptance import binomial_tail
from forms.poc.published.network import PublishedComputer

EXPECTED_FLIPS = 5e-4
FRAUD_THRESHOLD = 1e-7


@dataclass(frozen=True, slots=True)
class ProofBatch:
    """What a node hands in: nonces and their distances."""

    key: str
    block: str
    nonces: tuple[int, ...]
    distances: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Validated:
    """invalid: of those computed again.  chance: of so many at an honest node."""

    checked: int
    invalid: int
    chance: float

    @property
    def is_fraud(self) -> bool:
        return self.chance < FRAUD_THRESHOLD


def validate(computer: PublishedComputer, key: str, batch: ProofBatch, places: Sequence[int], r: float) -> Validated:
    """Compute the sampled nonces again under the sender's key, and count those that lie outside.

    Raises ValueError for a received distance that does: the recipe's process dies of an `assert` there.
    """
    if any(batch.distances[place] >= r for place in places):
        raise ValueError("a received distance is not below the threshold")
    found = computer.distances(key, [batch.nonces[place] for place in places])
    invalid = int(numpy.sum(found > r))
    return Validated(len(places), invalid, binomial_tail(invalid, len(places), EXPECTED_FLIPS))


def early_sample(validator: str, block: str, height: int, count: int, samples: int) -> list[int]:
    """Which entries a validator picks: known to everybody before anything is handed in."""
    seed = numpy.frombuffer(f"{validator}_{block}_{height}".encode(), numpy.uint8).tolist()
    picked = numpy.random.default_rng(numpy.random.SeedSequence(seed)).permutation(count)[:samples]
    return [int(place) for place in picked]
