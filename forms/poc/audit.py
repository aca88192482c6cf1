"""Both recipes put to the same cheats, each run as told: which is fooled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy

from forms.poc import cheats
from forms.poc.acceptance import threshold_for
from forms.poc.claim import Work, sample
from forms.poc.computer import Computer
from forms.poc.generation import Assignment
from forms.poc.nonces import Residue
from forms.poc.profile import TINY
from forms.poc.published import cheats as published_cheats
from forms.poc.published.network import PublishedComputer
from forms.poc.published.validation import ProofBatch, validate
from forms.poc.seeds import derive, derive_key
from forms.poc.verification import SAMPLES, judge_claim

SHARE = 0.2
FOUND = 96
NODES = 3
HONEST = "honest"
"""Nobody's cheat: what has to pass, or a refusal proves nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one prover fared. evidence: what the verifier saw."""

    recipe: str
    cheat: str
    is_caught: bool
    evidence: str


def audit(seed: bytes) -> Iterator[Finding]:
    """Run every cheat, and an honest prover first, against `m1` and against the published recipe."""
    yield from audit_m1(seed)
    yield from audit_published(seed)


def audit_m1(seed: bytes) -> Iterator[Finding]:
    """Each against one verifier of an epoch that `seed` makes, whose sample is fixed after the commitment."""
    epoch = derive("audit epoch", seed)
    computer = Computer.prepare(TINY, epoch)
    assignment = Assignment(TINY, epoch, derive_key("audit input", seed), SHARE, Residue(1, NODES, 1))
    situation = cheats.Situation(computer, assignment, FOUND, _dice(seed))
    run: dict[str, cheats.Cheat] = {HONEST: lambda its: Work.of(its.results())}
    for name, cheat in (run | cheats.CHEATS).items():
        work = cheat(situation)
        secret = situation.dice.bytes(32)
        openings = work.open(sample(work.claim.root, secret, work.claim.count, SAMPLES))
        judgement = judge_claim(computer, assignment, work.claim, secret, openings)
        worst = f"the largest error is {judgement.verdict.worst:.2g}" if judgement.verdict else ""
        yield Finding("m1", name, not judgement.is_honest, judgement.reason or f"nothing was found: {worst}")


def audit_published(seed: bytes) -> Iterator[Finding]:
    """Each against the rules of its validation, on a small network."""
    block = derive("audit block", seed, size=8).hex()
    recipe = published_cheats.AUDITED
    computer = PublishedComputer.prepare(recipe, block)
    r = threshold_for(published_cheats.SHARE, recipe.outputs)
    situation = published_cheats.Situation(computer, "key", "validator", r, _dice(seed))
    run: dict[str, Callable[[published_cheats.Situation], ProofBatch]] = {HONEST: lambda its: its.batch()}
    for name, cheat in (run | published_cheats.CHEATS).items():
        validated = validate(computer, situation.key, cheat(situation), situation.foreseen(), r)
        outside = f"{validated.invalid} of {validated.checked} recomputed distances lie outside"
        found = f"{outside}, chance {validated.chance:.2g}"
        yield Finding("published", name, validated.is_fraud, found)


def _dice(seed: bytes) -> numpy.random.Generator:
    return numpy.random.default_rng(list(seed))
