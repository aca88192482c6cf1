"""The same cheats against the published recipe, by the rules that it checks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy

from forms.poc.published.network import PublishedComputer
from forms.poc.published.recipe import Recipe
from forms.poc.published.validation import ProofBatch, early_sample

AUDITED = Recipe(width=32, layers=3, heads=4, outputs=64, factor=1.3, multiple_of=64, sequence=8)
SHARE = 0.5
FOUND = 200
SAMPLES = 100
NODES = 3
HEIGHT = 7
BATCH = 128


@dataclass(frozen=True, slots=True)
class Situation:
    """key: the cheat's.  validator: whose sample it can foresee.  r: the threshold."""

    computer: PublishedComputer
    key: str
    validator: str
    r: float
    dice: numpy.random.Generator

    def batch(self, computer: PublishedComputer | None = None, key: str = "", node: int = 0) -> ProofBatch:
        """What some network finds in order among one node's nonces."""
        computer, key = computer or self.computer, key or self.key
        nonces: list[int] = []
        distances: list[float] = []
        start = node
        while len(nonces) < FOUND:
            tried = list(range(start, start + BATCH * NODES, NODES))
            start += BATCH * NODES
            for nonce, distance in zip(tried, computer.distances(key, tried).tolist(), strict=True):
                if distance < self.r:
                    nonces.append(nonce)
                    distances.append(distance)
        return self.handed_in(nonces[:FOUND], distances[:FOUND])

    def handed_in(self, nonces: Sequence[int], distances: Sequence[float]) -> ProofBatch:
        """A batch under the cheat's own name."""
        return ProofBatch(self.key, self.computer.block, tuple(nonces), tuple(distances))

    def foreseen(self) -> list[int]:
        """Which places will be looked at."""
        return early_sample(self.validator, self.computer.block, HEIGHT, FOUND, SAMPLES)


def _random(its: Situation) -> ProofBatch:
    nonces = its.dice.choice(10 * FOUND, FOUND, replace=False) * NODES
    return its.handed_in(nonces.tolist(), (its.r - its.dice.uniform(1e-4, 0.1, FOUND)).tolist())


def _replay(its: Situation) -> ProofBatch:
    return its.batch(PublishedComputer.prepare(its.computer.recipe, its.computer.block + "-earlier"))


def _duplicate(its: Situation) -> ProofBatch:
    once = its.batch()
    half = FOUND // 2
    return its.handed_in(once.nonces[:half] * 2, once.distances[:half] * 2)


def _faked_unsampled(its: Situation) -> ProofBatch:
    """Real work at the places that will be looked at, which everybody knows beforehand."""
    real, faked = its.batch(), _random(its)
    seen = set(its.foreseen())
    picked = [real if place in seen else faked for place in range(FOUND)]
    return its.handed_in(
        [batch.nonces[place] for place, batch in enumerate(picked)],
        [batch.distances[place] for place, batch in enumerate(picked)],
    )


CHEATS: dict[str, Callable[[Situation], ProofBatch]] = {
    "skip-all-layers": lambda its: its.batch(replace(its.computer, skipped=range(its.computer.recipe.layers))),
    "skip-one-layer": lambda its: its.batch(replace(its.computer, skipped=(its.computer.recipe.layers - 1,))),
    "int8": lambda its: its.batch(its.computer.quantised(8)),
    "int4": lambda its: its.batch(its.computer.quantised(4)),
    "truncate-context": lambda its: its.batch(replace(its.computer, context=its.computer.recipe.sequence // 2)),
    "replay": _replay,
    "random": _random,
    "other-key": lambda its: its.batch(key=its.key + "-other"),
    "duplicate": _duplicate,
    "foreign-residue": lambda its: its.batch(node=1),
    "faked-unsampled": _faked_unsampled,
}
