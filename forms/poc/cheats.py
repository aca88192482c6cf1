"""Provers who cheat against `m1`, each in the way it is named for: what the audit and the tests have caught. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy

from forms.poc.arithmetic import quantised
from forms.poc.claim import Work, sample
from forms.poc.computer import Computer, Results
from forms.poc.generation import Assignment, generate, joined
from forms.poc.nonces import Residue
from forms.poc.philox import Array
from forms.poc.profile import ARTEFACT_COORDINATES
from forms.poc.seeds import derive
from forms.poc.verification import SAMPLES
from forms.poc.weights import Layer, Weights

BATCH = 128


@dataclass(frozen=True, slots=True)
class Situation:
    """What a cheat has to hand: its network and assignment, how much it wants to have found, and dice."""

    computer: Computer
    assignment: Assignment
    wanted: int
    dice: numpy.random.Generator

    def results(self, computer: Computer | None = None, assignment: Assignment | None = None) -> Results:
        """What some network finds in an assignment, in order, as much as is wanted."""
        assignment = assignment or self.assignment
        parts, found = [], 0
        for part in generate(computer or self.computer, assignment, 0, BATCH):
            parts.append(part)
            found += len(part.nonces)
            if found >= self.wanted:
                return cut(joined(parts), slice(0, self.wanted))
        raise AssertionError("generating has no end")

    def made_up(self, nonces: numpy.typing.NDArray[numpy.uint64]) -> Results:
        """Values out of dice that look as they should."""
        coordinates = self.dice.standard_normal((len(nonces), ARTEFACT_COORDINATES))
        distances = self.assignment.threshold - self.dice.uniform(1e-4, 0.1, len(nonces))
        return Results(nonces, distances.astype(numpy.float32), coordinates.astype(numpy.float16))


Cheat = Callable[[Situation], Work]


def cut(results: Results, which: slice) -> Results:
    """Some of `results`."""
    return Results(results.nonces[which], results.distances[which], results.artefacts[which])


def without_layers(computer: Computer, *left_out: int) -> Computer:
    """A network that leaves layers out."""
    layers = [layer for number, layer in enumerate(computer.weights.layers) if number not in left_out]
    return replace(computer, weights=Weights(layers, computer.weights.output))


def with_few_bits(computer: Computer, bits: int) -> Computer:
    """A network whose weights are rounded to `bits`."""
    layers = [
        Layer(**{part.name: quantised(getattr(layer, part.name), bits, computer.xp) for part in fields(Layer)})
        for layer in computer.weights.layers
    ]
    return replace(computer, weights=Weights(layers, quantised(computer.weights.output, bits, computer.xp)))


def with_fp8(computer: Computer) -> Computer:
    """A network whose weights have the four bits of precision of fp8 (e4m3); its narrower range is not needed."""
    xp = computer.xp

    def rounded(values: Array) -> Array:
        mantissas, exponents = xp.frexp(values)
        return xp.ldexp(xp.rint(mantissas * 16) / 16, exponents).astype(values.dtype)

    layers = [
        Layer(**{part.name: rounded(getattr(layer, part.name)) for part in fields(Layer)})
        for layer in computer.weights.layers
    ]
    return replace(computer, weights=Weights(layers, rounded(computer.weights.output)))


def _skip_all(its: Situation) -> Work:
    return Work.of(its.results(without_layers(its.computer, *range(its.computer.profile.layers))))


def _skip_one(its: Situation) -> Work:
    return Work.of(its.results(without_layers(its.computer, its.computer.profile.layers - 1)))


def _int8(its: Situation) -> Work:
    return Work.of(its.results(with_few_bits(its.computer, 8)))


def _int4(its: Situation) -> Work:
    return Work.of(its.results(with_few_bits(its.computer, 4)))


def _truncated(its: Situation) -> Work:
    return Work.of(its.results(replace(its.computer, context=its.computer.profile.sequence // 2)))


def _random(its: Situation) -> Work:
    tested = round(its.wanted / its.assignment.share)
    nonces = its.assignment.residue.nonces(0, 0, tested)
    return Work.of(its.made_up(numpy.sort(its.dice.choice(nonces, its.wanted, replace=False))))


def _replay(its: Situation) -> Work:
    """Work that was honest in the epoch before."""
    earlier = derive("earlier", its.assignment.seed)
    return Work.of(its.results(Computer.prepare(its.computer.profile, earlier), replace(its.assignment, seed=earlier)))


def _other_key(its: Situation) -> Work:
    """Work that another prover did in this very epoch."""
    return Work.of(its.results(assignment=replace(its.assignment, key=its.assignment.key ^ 1)))


def _duplicate(its: Situation) -> Work:
    once = cut(its.results(), slice(0, its.wanted // 2))
    return Work.of(joined([once, once]))


def _foreign_residue(its: Situation) -> Work:
    """Nonces that another node tries too, so that one found counts for both."""
    mine = its.assignment.residue
    other = Residue((mine.node + 1) % mine.nodes, mine.nodes, mine.groups)
    return Work.of(its.results(assignment=replace(its.assignment, residue=other)))


def _faked_unsampled(its: Situation) -> Work:
    """Real work for those that would be opened if the secret were the one it guesses, and dice for the rest."""
    real = its.results()
    guessed = sample(Work.of(real).claim.root, its.dice.bytes(32), its.wanted, min(SAMPLES, its.wanted // 4))
    faked = its.made_up(real.nonces)
    for place in guessed:
        faked.distances[place], faked.artefacts[place] = real.distances[place], real.artefacts[place]
    return Work.of(faked)


CHEATS: dict[str, Cheat] = {
    "skip-all-layers": _skip_all,
    "skip-one-layer": _skip_one,
    "int8": _int8,
    "int4": _int4,
    "truncate-context": _truncated,
    "replay": _replay,
    "random": _random,
    "other-key": _other_key,
    "duplicate": _duplicate,
    "foreign-residue": _foreign_residue,
    "faked-unsampled": _faked_unsampled,
}
