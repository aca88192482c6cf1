"""A verifier's work: what every claim must satisfy at sight, then some of it computed again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from forms.poc.acceptance import binomial_tail
from forms.poc.claim import Claim, Opening, sample
from forms.poc.computer import Computer
from forms.poc.generation import Assignment
from forms.poc.philox import Array
from forms.poc.verdict import Verdict, errors_between, judge

SAMPLES = 64
LEAST_FOUND = 16
"""Fewer say nothing of a speed, nor of honesty."""
DENSITY_SLACK = 1.25
"""An epoch's one target favours some seeds: their share of kept nonces strays by some percent (poc.md §5, test 5)."""
LEAST_DENSITY_CHANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Judgement:
    """reason: why the claim fails, "" where it holds.  verdict: of the samples, where it came to that."""

    reason: str
    verdict: Verdict | None = None

    @property
    def is_honest(self) -> bool:
        return not self.reason


def judge_claim(
    computer: Computer, assignment: Assignment, claim: Claim, secret: bytes, openings: Sequence[Opening]
) -> Judgement:
    """Whether a claim holds: the same for whoever has these five, but for rounding."""
    if reason := fault_at_sight(assignment, claim) or fault_of_openings(claim, secret, openings):
        return Judgement(reason)
    verdict = judge(recomputed_errors(computer, assignment, claim, openings))
    if verdict.is_honest:
        return Judgement("", verdict)
    found = f"{verdict.hard} of {verdict.samples} samples are wrong, {verdict.soft} are off"
    return Judgement(f"{found}: the largest error is {verdict.worst:.3g}", verdict)


def fault_at_sight(assignment: Assignment, claim: Claim) -> str:
    """What is wrong with a claim before anything is computed; "" for nothing."""
    nonces, distances = claim.nonce_array(), claim.distance_array()
    if claim.count < LEAST_FOUND:
        return f"{claim.count} nonces were found, {LEAST_FOUND} are the least"
    if len(numpy.unique(nonces)) != claim.count:
        return "a nonce is claimed twice"
    if not assignment.residue.owns(nonces):
        return "a nonce belongs to another node"
    if not numpy.all((distances >= 0) & (distances < numpy.float32(assignment.threshold))):
        return f"a distance is not below {assignment.threshold:.6g}"
    tested = assignment.residue.tested(nonces)
    if binomial_tail(claim.count, tested, min(1.0, assignment.share * DENSITY_SLACK)) < LEAST_DENSITY_CHANCE:
        return f"{claim.count} of {tested} tested nonces were kept, where {assignment.share:.3g} of them can be"
    return ""


def fault_of_openings(claim: Claim, secret: bytes, openings: Sequence[Opening]) -> str:
    """What is wrong with what was opened; "" for nothing."""
    wanted = sample(claim.root, secret, claim.count, SAMPLES)
    if [opening.index for opening in openings] != wanted:
        return f"other samples were opened than the {len(wanted)} that were asked for"
    if not all(opening.belongs_to(claim) for opening in openings):
        return "an opening is not what was committed to"
    return ""


def recomputed_errors(computer: Computer, assignment: Assignment, claim: Claim, openings: Sequence[Opening]) -> Array:
    """How far each opened result lies from what `computer` finds."""
    places = numpy.array([opening.index for opening in openings])
    artefacts = numpy.frombuffer(b"".join(opening.artefact for opening in openings), "<f2").reshape(len(places), -1)
    found = computer.compute(assignment.key, claim.nonce_array()[places])
    said = (claim.distance_array()[places], artefacts)
    errors = errors_between(assignment.profile.outputs, said, (found.distances, found.artefacts))
    # Where everybody finds the same, whatever differs at all is wrong.
    return numpy.where(errors > 0, numpy.inf, errors) if assignment.profile.is_exact else errors
