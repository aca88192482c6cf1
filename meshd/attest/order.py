"""The order of one proof, at either end: the sample is known to nobody before the work is committed to. Pure.

verifier                    prover
promise(H(secret)) ───────▶            its clock runs since the race began
           ◀─────── claim (root)       its clock stops
secret ───────────────────▶            opens what root and secret pick
           ◀─────── openings
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forms.poc.seeds import derive

GRACE_S = 60.0
"""For the way there and back, and for a batch that was under way when time was up. It counts as time that was taken."""
ANSWER_S = 60.0


class OutOfOrder(Exception):
    """The other end did something too early, too late or twice: its part of the proof is void."""


def promise_of(secret: bytes) -> bytes:
    """What a verifier shows of its secret before the work: it cannot pick a sample to suit the claim either."""
    return derive("poc sample promise", secret)


@dataclass(slots=True)
class VerifierOrder:
    """One prover as its verifier sees it. started: when the race began, in its own seconds.  work_s: allowed."""

    secret: bytes
    started: float
    work_s: float
    root: bytes | None = None
    taken_s: float = 0.0
    _revealed: float | None = field(default=None, init=False)

    def commit(self, root: bytes, now: float) -> bytes:
        """Take a claim's root, and give the secret for it. The time that counts is this clock's, with the network's."""
        if self.root is not None:
            raise OutOfOrder("a second claim came after the first")
        if now > self.started + self.work_s + GRACE_S:
            raise OutOfOrder(f"the claim came {now - self.started - self.work_s:.1f} s after its time")
        self.root, self.taken_s, self._revealed = root, now - self.started, now
        return self.secret

    def open(self, now: float) -> bytes:
        """The openings have come: the root that they have to belong to."""
        if self.root is None or self._revealed is None:
            raise OutOfOrder("openings came before a claim")
        if now > self._revealed + ANSWER_S:
            raise OutOfOrder("the openings came too late")
        return self.root


@dataclass(slots=True)
class ProverOrder:
    """One verifier as its prover sees it."""

    promise: bytes
    root: bytes | None = None
    _committed: float | None = field(default=None, init=False)

    def commit(self, root: bytes, now: float) -> None:
        """Fix the work."""
        if self.root is not None:
            raise OutOfOrder("work is committed to once")
        self.root, self._committed = root, now

    def open(self, secret: bytes, now: float) -> bytes:
        """The root of the work to open. OutOfOrder where the secret is early, late, or not the promised one."""
        if self.root is None or self._committed is None:
            raise OutOfOrder("the verifier showed its secret before the work was committed to")
        if now > self._committed + ANSWER_S:
            raise OutOfOrder("the verifier's secret came too late")
        if promise_of(secret) != self.promise:
            raise OutOfOrder("the verifier showed another secret than the one that it had promised")
        return self.root
