"""What this node knows of proofs: the verdicts it heard, which of them it checked itself, and whom it shuts out. Pure.

A verdict of fraud counts for nothing until the transcript that it names was checked here. Then either the prover is in
quarantine or, where the transcript says otherwise, the verifier that lied: a node in quarantine gets no work of this
one, and its verdicts count no more. Nobody else's quarantine is taken over.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from meshd.attest.attestation import CLOCK_SLACK_S, LIFETIME_S, MAX_TOLD, Attestation, Signed
from meshd.attest.transcript import Judged
from meshd.attest.worth import Attested
from transport.interface import NodeId

MAX_CHECKS = 4
"""Of one transcript that cannot be had; after that the verdict stays an unproven word."""
CHECK_AGAIN_S = 30.0
SPOT_CHECKED = 8
"""One in so many verdicts of honesty is checked too, by the transcript's digest and this node's id."""


# Half and twice the bounds of `forms.poc.verdict`: whoever sets values just at a bound makes judges disagree by their
# rounding, and would have them shut out one another.
CLEARLY_HONEST = 0.005
CLEARLY_WRONG = 0.3
CLEARLY_MANY = 6
"""Mismatches; three of 64 are too many already."""


class Outcome(Enum):
    """What came of a check.

    CONFIRMED: the transcript says what the verdict does.  REFUTED: it does not bear it out, which is the verifier's
    fault alone.  COVERED: it was to show honesty and shows fraud, which is both's.  UNCLEAR: judged otherwise here, and
    so narrowly that rounding may explain it.  UNAVAILABLE: nobody shows it.
    """

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    COVERED = "covered"
    UNCLEAR = "unclear"
    UNAVAILABLE = "unavailable"


def outcome_of(verdict: str, judged: Judged) -> Outcome:
    """What it means for a verifier's verdict that its transcript was judged so here."""
    if judged.verdict == verdict:
        return Outcome.CONFIRMED
    match judged.verdict:
        case "void":
            return Outcome.REFUTED
        case "attested":
            return Outcome.REFUTED if judged.worst <= CLEARLY_HONEST else Outcome.UNCLEAR
        case "fraud":
            is_clear = not judged.samples or judged.mismatches >= CLEARLY_MANY or judged.worst > CLEARLY_WRONG
            return Outcome.COVERED if is_clear else Outcome.UNCLEAR


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a node gets no work of this one, and until when, in Unix time."""

    node: NodeId
    reason: str
    until: float


@dataclass(slots=True)
class _Checks:
    tries: int = 0
    next_at: float = 0.0
    outcome: Outcome | None = None


@dataclass(slots=True)
class Ledger:
    """One node's. counters: attestations `heard`, and checks by their outcome."""

    node: NodeId
    counters: Counter[str] = field(default_factory=Counter)
    _held: dict[NodeId, dict[NodeId, Attestation]] = field(default_factory=dict)
    """By verifier, then by prover."""
    _checks: dict[bytes, _Checks] = field(default_factory=dict)
    _quarantines: dict[NodeId, Quarantine] = field(default_factory=dict)

    # What was said

    def hear(self, attestation: Attestation, now: float) -> bool:
        """Take what a verifier says, its signature checked; the latest epoch counts. Whether it is news."""
        findings = attestation.findings
        if not now < findings.expires or findings.made > now + CLOCK_SLACK_S:
            return False
        told = self._held.setdefault(attestation.verifier, {})
        known = told.get(attestation.prover)
        if known is not None and _order(known) >= _order(attestation):
            return False
        told[attestation.prover] = attestation
        if len(told) > MAX_TOLD:
            del told[min(told, key=lambda prover: _order(told[prover]))]
        self.counters["heard"] += 1
        if attestation.verifier == self.node and not findings.is_honest:
            self._shut_out(attestation.prover, "its proof failed here", findings.expires)
        return True

    def knows(self, verifier: NodeId, signed: Signed) -> bool:
        """Whether this very attestation is held, so that its signature need not be checked again."""
        return any(one.signed == signed for one in self._held.get(verifier, {}).values())

    def own(self, now: float) -> list[Attestation]:
        """What this node says of others, to be told."""
        return [one for one in self._held.get(self.node, {}).values() if now < one.findings.expires]

    def about(self, prover: NodeId, now: float) -> list[Attestation]:
        """Everything that verifiers who count say of `prover`, the latest first."""
        said = (told[prover] for told in self._held.values() if prover in told)
        found = [one for one in said if now < one.findings.expires and not self.quarantine(one.verifier, now)]
        return sorted(found, key=_order, reverse=True)

    def verdicts(self, prover: NodeId, now: float) -> list[Attested]:
        """As `worth` takes them: a verdict of fraud only where it was checked here, or is this node's own."""
        return [_attested(one) for one in self.about(prover, now) if one.findings.is_honest or self._is_confirmed(one)]

    # What was checked

    def due(self, now: float) -> list[Attestation]:
        """Attestations whose transcripts are to be checked now: one of each verifier, so that none keeps out others'.

        Fraud first, then by epoch.
        """
        wanted = []
        for told in self._held.values():
            due = [one for one in told.values() if now < one.findings.expires and self._is_due(one, now)]
            wanted += [min(due, key=_urgency)] if due else []
        return sorted(wanted, key=_urgency)

    def settle(self, attestation: Attestation, outcome: Outcome, now: float) -> None:
        """Take what came of a check."""
        findings = attestation.findings
        checks = self._checks.setdefault(findings.transcript, _Checks())
        checks.tries += 1
        checks.next_at, checks.outcome = now + CHECK_AGAIN_S * 2**checks.tries, outcome
        self.counters[outcome.value] += 1
        is_fraud = outcome is Outcome.CONFIRMED and not findings.is_honest
        if is_fraud or outcome is Outcome.COVERED:
            self._shut_out(attestation.prover, "the transcript of its proof fails", findings.expires)
        if outcome in (Outcome.REFUTED, Outcome.COVERED):
            said = "honest" if findings.is_honest else "fraud"
            self._shut_out(
                attestation.verifier, f"it called {said} what its transcript shows not to be", now + LIFETIME_S
            )

    def quarantine(self, node: NodeId, now: float) -> Quarantine | None:
        """Why `node` gets no work; None where it may."""
        found = self._quarantines.get(node)
        return found if found is not None and now < found.until else None

    def quarantines(self, now: float) -> list[Quarantine]:
        """All that stand."""
        return [one for one in self._quarantines.values() if now < one.until]

    def forget_expired(self, now: float) -> None:
        """Drop what counts no more, once in a while."""
        for told in self._held.values():
            for prover in [prover for prover, one in told.items() if one.findings.expires <= now]:
                del told[prover]
        transcripts = {one.findings.transcript for told in self._held.values() for one in told.values()}
        self._checks = {digest: checks for digest, checks in self._checks.items() if digest in transcripts}
        self._held = {verifier: told for verifier, told in self._held.items() if told}
        self._quarantines = {node: one for node, one in self._quarantines.items() if now < one.until}

    # Parts

    def _is_confirmed(self, one: Attestation) -> bool:
        checks = self._checks.get(one.findings.transcript)
        return one.verifier == self.node or (checks is not None and checks.outcome is Outcome.CONFIRMED)

    def _is_due(self, one: Attestation, now: float) -> bool:
        findings = one.findings
        if self.node in (one.verifier, one.prover) or self.quarantine(one.verifier, now):
            return False
        if findings.is_honest and (findings.transcript[0] ^ self.node[0]) % SPOT_CHECKED:
            return False
        checks = self._checks.get(findings.transcript)
        if checks is None:
            return True
        is_open = checks.outcome is Outcome.UNAVAILABLE and checks.tries < MAX_CHECKS
        return is_open and now >= checks.next_at

    def _shut_out(self, node: NodeId, reason: str, until: float) -> None:
        if node == self.node:
            return  # one's own work is not placed by what others may say
        known = self._quarantines.get(node)
        if known is None or known.until < until:
            self._quarantines[node] = Quarantine(node, reason, until)


def _urgency(one: Attestation) -> tuple[bool, tuple[int, int, bytes]]:
    return one.findings.is_honest, _order(one)


def _order(one: Attestation) -> tuple[int, int, bytes]:
    return one.findings.epoch, one.findings.made, one.signed.findings


def _attested(one: Attestation) -> Attested:
    findings = one.findings
    return Attested(one.verifier, findings.flop_per_s, findings.is_honest, findings.made, findings.expires)
