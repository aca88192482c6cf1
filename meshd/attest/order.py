"""The order of one proof, at either end: the sample is known to nobody before the work is committed to. Pure.

verifier                    prover
promise(H(secret)) ───────▶            its clock starts
           ◀─────── claim (root)       its clock stops
secret ───────────────────▶            opens what root and secret pick
           ◀─────── openings
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forms.poc.claim import Claim, Opening, Work, sample
from forms.poc.seeds import derive
from forms.poc.verification import SAMPLES, fault_of_openings

GRACE_S = 5.0
"""For the way there and back, and for a batch that was under way when time was up."""
ANSWER_S = 10.0


class OutOfOrder(Exception):
    """The other end did something too early, too late or twice: its part of the proof is void."""


def promise_of(secret: bytes) -> bytes:
    """What a verifier shows of its secret before the work: it cannot pick a sample to suit the claim either."""
    return derive("poc sample promise", secret)


@dataclass(slots=True)
class VerifierOrder:
    """One prover as its verifier sees it. started: when the promise left, in its own seconds.  work_s: allowed."""

    secret: bytes
    started: float
    work_s: float
    claim: Claim | None = None
    taken_s: float = 0.0
    _revealed: float | None = field(default=None, init=False)

    def commit(self, claim: Claim, now: float) -> bytes:
        """Take the claim, and give the secret for it. The time that counts is this clock's, the network's included."""
        if self.claim is not None:
            raise OutOfOrder("a second claim came after the first")
        if now > self.started + self.work_s + GRACE_S:
            raise OutOfOrder(f"the claim came {now - self.started - self.work_s:.1f} s after its time")
        self.claim, self.taken_s, self._revealed = claim, now - self.started, now
        return self.secret

    def open(self, openings: tuple[Opening, ...], now: float) -> Claim:
        """Take the openings: the claim that they belong to, to be judged."""
        if self.claim is None or self._revealed is None:
            raise OutOfOrder("openings came before a claim")
        if now > self._revealed + ANSWER_S:
            raise OutOfOrder("the openings came too late")
        if fault := fault_of_openings(self.claim, self.secret, openings):
            raise OutOfOrder(fault)
        return self.claim


@dataclass(slots=True)
class ProverOrder:
    """One verifier as its prover sees it."""

    promise: bytes
    work: Work | None = None
    _committed: float | None = field(default=None, init=False)

    def commit(self, work: Work, now: float) -> Claim:
        """Fix the work; what is sent of it."""
        if self.work is not None:
            raise OutOfOrder("work is committed to once")
        self.work, self._committed = work, now
        return work.claim

    def open(self, secret: bytes, now: float) -> tuple[Opening, ...]:
        """Answer the verifier's secret. OutOfOrder where it is early, late, or not the promised one."""
        if self.work is None or self._committed is None:
            raise OutOfOrder("the verifier showed its secret before the work was committed to")
        if now > self._committed + ANSWER_S:
            raise OutOfOrder("the verifier's secret came too late")
        if promise_of(secret) != self.promise:
            raise OutOfOrder("the verifier showed another secret than the one that it had promised")
        claim = self.work.claim
        return self.work.open(sample(claim.root, secret, claim.count, SAMPLES))
