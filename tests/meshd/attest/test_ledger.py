"""What is said of provers is believed as far as it was checked here, and whoever was caught lying is shut out."""

from __future__ import annotations

import msgspec
import pytest

from forms.poc.acceptance import binomial_tail
from forms.poc.profile import TINY
from forms.poc.verdict import HARD, HONEST_SHARE, LEAST_CHANCE, SOFT
from forms.poc.verification import SAMPLES
from meshd.attest.attestation import (
    LIFETIME_S,
    MAX_TOLD,
    Attestation,
    Findings,
    Signed,
    attest,
    decode_fact,
    encode_fact,
    fault_of,
    lower_flop_per_s,
    open_attestation,
)
from meshd.attest.ledger import (
    CHECK_AGAIN_S,
    CLEARLY_HONEST,
    CLEARLY_MANY,
    CLEARLY_WRONG,
    MAX_CHECKS,
    Ledger,
    Outcome,
    outcome_of,
)
from meshd.attest.transcript import Judged
from transport.errors import ProtocolError
from transport.identity import NodeKey
from transport.interface import NodeId

MESH_ID = b"m" * 16
NOW = 1_790_000_000
ME, PROVER = NodeKey(b"\x00" * 32), NodeKey(b"\x01" * 32)
VERIFIERS = [NodeKey(bytes([number]) * 32) for number in (2, 3, 4)]


def findings(
    verifier: NodeKey = VERIFIERS[0], *, is_honest: bool = True, epoch: int = NOW, **other: object
) -> Findings:
    transcript = verifier.node[:31] + ME.node[:1]  # its last byte makes transcripts of different verifiers differ
    plain = Findings(
        prover=PROVER.node,
        verifier=verifier.node,
        epoch=epoch,
        profile=TINY.digest,
        groups=(1,),
        found=400,
        share=0.05,
        taken_s=10.0,
        flop_per_s=lower_flop_per_s(TINY, 400, 0.05, 10.0),
        vram_gb=0.0,
        samples=64,
        mismatches=0 if is_honest else 9,
        verdict="attested" if is_honest else "fraud",
        transcript=transcript,
        made=epoch,
        expires=epoch + 1000,
    )
    return msgspec.structs.replace(plain, **other)


def said(verifier: NodeKey = VERIFIERS[0], **other: object) -> Attestation:
    return attest(findings(verifier, **other), verifier, MESH_ID)  # type: ignore[arg-type]


def spotted(ledger: Ledger, verifier: NodeKey) -> Attestation:
    """A verdict of honesty that this node checks by its dice."""
    return said(verifier, transcript=ledger.node[:1] + verifier.node[1:])


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(ME.node)


def test_a_fact_is_read_as_it_was_told() -> None:
    told = [said(), said(prover=ME.node)]
    fact = decode_fact(encode_fact(told, "generate", 2e9), VERIFIERS[0].node)
    assert (fact.phase, fact.claimed_flop_per_s) == ("generate", 2e9)
    opened = [open_attestation(one, MESH_ID, VERIFIERS[0].node) for one in fact.attestations]
    assert {one.prover for one in opened} == {PROVER.node, ME.node}


@pytest.mark.parametrize("forgery", ["mesh", "findings", "key"])
def test_what_its_verifier_did_not_sign_is_refused(forgery: str) -> None:
    signed, mesh_id = said().signed, MESH_ID
    if forgery == "mesh":
        mesh_id = b"n" * 16
    elif forgery == "findings":
        signed = Signed(said(found=300, flop_per_s=1.0).signed.findings, signed.public, signed.signature)
    else:
        signed = Signed(signed.findings, VERIFIERS[1].public, VERIFIERS[1].sign(signed.findings))
    with pytest.raises(ProtocolError, match="told"):
        open_attestation(signed, mesh_id, VERIFIERS[0].node)


@pytest.mark.parametrize(
    "lie",
    [
        {"flop_per_s": 1.01 * lower_flop_per_s(TINY, 400, 0.05, 10.0)},
        {"taken_s": 0.0},
        {"profile": bytes(32)},
        {"expires": NOW + LIFETIME_S + 1},
        {"expires": NOW},
        {"mismatches": 65},
        {"epoch": NOW + 9999, "made": NOW, "expires": NOW + 1},
        {"prover": VERIFIERS[0].node},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_what_contradicts_itself_is_refused(lie: dict[str, object]) -> None:
    assert fault_of(findings(**lie)) != ""  # type: ignore[arg-type]
    assert fault_of(findings()) == ""


def test_the_latest_epoch_of_a_verifier_counts(ledger: Ledger) -> None:
    assert ledger.hear(said(epoch=NOW - 5), NOW)
    assert ledger.hear(said(epoch=NOW), NOW)
    assert not ledger.hear(said(epoch=NOW - 5), NOW)
    assert [one.made for one in ledger.verdicts(NodeId(PROVER.node), NOW)] == [NOW]


def test_what_has_expired_counts_no_more(ledger: Ledger) -> None:
    ledger.hear(said(), NOW)
    assert ledger.verdicts(PROVER.node, NOW + 999)
    assert not ledger.verdicts(PROVER.node, NOW + 1000)
    assert not ledger.hear(said(verifier=VERIFIERS[1]), NOW + 1000)


def test_a_word_of_fraud_counts_for_nothing_until_it_was_checked(ledger: Ledger) -> None:
    word = said(is_honest=False)
    ledger.hear(word, NOW)
    assert ledger.due(NOW) == [word]
    assert ledger.verdicts(PROVER.node, NOW) == []
    assert ledger.quarantine(PROVER.node, NOW) is None
    ledger.settle(word, Outcome.CONFIRMED, NOW)
    assert [one.is_honest for one in ledger.verdicts(PROVER.node, NOW)] == [False]
    assert ledger.quarantine(PROVER.node, NOW) is not None
    assert ledger.quarantine(PROVER.node, NOW + 1000) is None
    assert ledger.due(NOW) == []


def test_a_verifier_that_slanders_is_shut_out_with_all_its_words(ledger: Ledger) -> None:
    slander, other = said(is_honest=False), said(prover=VERIFIERS[2].node, transcript=b"\xff" * 32)
    for word in (slander, other):
        ledger.hear(word, NOW)
    ledger.settle(slander, Outcome.REFUTED, NOW)
    assert ledger.quarantine(PROVER.node, NOW) is None
    assert ledger.quarantine(VERIFIERS[0].node, NOW) is not None
    assert ledger.about(VERIFIERS[2].node, NOW) == []
    assert ledger.counters["refuted"] == 1


def test_a_verifier_that_covers_a_cheat_is_shut_out_with_it(ledger: Ledger) -> None:
    cover = spotted(ledger, VERIFIERS[0])
    ledger.hear(cover, NOW)
    assert ledger.due(NOW) == [cover]
    ledger.settle(cover, Outcome.COVERED, NOW)
    assert {one.node for one in ledger.quarantines(NOW)} == {PROVER.node, VERIFIERS[0].node}


@pytest.mark.parametrize("is_honest", [True, False])
def test_nobody_is_framed_with_a_transcript_that_shows_nothing(ledger: Ledger, is_honest: bool) -> None:
    word = said(is_honest=is_honest, transcript=ME.node[:1] + b"x" * 31)
    ledger.hear(word, NOW)
    ledger.settle(word, Outcome.REFUTED, NOW)
    assert {one.node for one in ledger.quarantines(NOW)} == {VERIFIERS[0].node}


def test_where_rounding_may_explain_it_nobody_is_shut_out(ledger: Ledger) -> None:
    word = said(is_honest=False)
    ledger.hear(word, NOW)
    ledger.settle(word, Outcome.UNCLEAR, NOW)
    assert ledger.quarantines(NOW) == [] and ledger.due(NOW + 900) == []
    assert ledger.verdicts(PROVER.node, NOW) == []


@pytest.mark.parametrize(
    ("verdict", "judged", "outcome"),
    [
        ("attested", Judged("attested", "", 64, 0, 1e-3), Outcome.CONFIRMED),
        ("fraud", Judged("fraud", "", 64, 3, 0.011), Outcome.CONFIRMED),
        ("fraud", Judged("attested", "", 64, 0, 1e-3), Outcome.REFUTED),
        ("fraud", Judged("attested", "", 64, 2, 0.011), Outcome.UNCLEAR),
        ("attested", Judged("fraud", "", 64, 3, 0.011), Outcome.UNCLEAR),
        ("attested", Judged("fraud", "", 64, 60, 0.02), Outcome.COVERED),
        ("attested", Judged("fraud", "", 64, 1, 0.9), Outcome.COVERED),
        ("attested", Judged("fraud", "a nonce is claimed twice"), Outcome.COVERED),
        ("attested", Judged("void", "the prover did not sign this claim"), Outcome.REFUTED),
        ("fraud", Judged("void", "the prover did not sign this claim"), Outcome.REFUTED),
    ],
)
def test_what_a_judgement_means_for_the_verdict(verdict: str, judged: Judged, outcome: Outcome) -> None:
    assert outcome_of(verdict, judged) is outcome


def test_what_is_clear_lies_well_beside_the_bounds() -> None:
    assert CLEARLY_HONEST <= SOFT / 2
    assert CLEARLY_WRONG >= 2 * HARD
    assert binomial_tail(CLEARLY_MANY // 2, SAMPLES, HONEST_SHARE) < LEAST_CHANCE


def test_most_verdicts_of_honesty_are_believed_unchecked(ledger: Ledger) -> None:
    words = [
        said(transcript=bytes([number]) * 32, prover=NodeKey(bytes([number]) * 32).node) for number in range(30, 62)
    ]
    for word in words:
        ledger.hear(word, NOW)
    checked = 0
    while due := ledger.due(NOW):
        ledger.settle(due[0], Outcome.CONFIRMED, NOW)
        checked += 1
    assert 0 < checked <= len(words) // 4


def test_a_verifier_with_many_doubtful_words_keeps_no_others_from_being_checked(ledger: Ledger) -> None:
    for number in range(40, 60):
        ledger.hear(
            said(prover=NodeKey(bytes([number]) * 32).node, transcript=bytes([number]) * 32, is_honest=False), NOW
        )
    other = said(VERIFIERS[1], is_honest=False)
    ledger.hear(other, NOW)
    assert len(ledger.due(NOW)) == 2
    assert other in ledger.due(NOW)


def test_a_transcript_that_nobody_shows_proves_nothing(ledger: Ledger) -> None:
    word, now = said(is_honest=False, expires=NOW + LIFETIME_S), float(NOW)
    ledger.hear(word, now)
    for _ in range(MAX_CHECKS):
        assert ledger.due(now) == [word]
        ledger.settle(word, Outcome.UNAVAILABLE, now)
        assert ledger.due(now) == []
        now += 2 * CHECK_AGAIN_S * 2**MAX_CHECKS
    assert ledger.due(now) == []
    assert ledger.quarantines(now) == []


def test_ones_own_verdict_of_fraud_needs_no_second_look() -> None:
    ledger = Ledger(VERIFIERS[0].node)
    ledger.hear(said(is_honest=False), NOW)
    assert ledger.due(NOW) == []
    assert ledger.quarantine(PROVER.node, NOW) is not None


def test_nobody_is_talked_into_shutting_itself_out() -> None:
    ledger = Ledger(PROVER.node)
    word = said(is_honest=False)
    ledger.hear(word, NOW)
    ledger.settle(word, Outcome.CONFIRMED, NOW)
    assert ledger.quarantines(NOW) == []


def test_no_verifier_fills_the_ledger(ledger: Ledger) -> None:
    for number in range(MAX_TOLD + 9):
        prover = NodeId(number.to_bytes(32, "big"))
        ledger.hear(said(prover=prover, epoch=NOW + number, transcript=prover), NOW)
    assert ledger.about(NodeId(bytes(32)), NOW) == []
    assert len(ledger.about(NodeId((MAX_TOLD + 8).to_bytes(32, "big")), NOW)) == 1


def test_what_has_expired_is_dropped(ledger: Ledger) -> None:
    word = said(is_honest=False)
    ledger.hear(word, NOW)
    ledger.settle(word, Outcome.CONFIRMED, NOW)
    assert ledger.knows(word.verifier, word.signed)
    ledger.forget_expired(NOW + 1000)
    assert not ledger.knows(word.verifier, word.signed)
    assert ledger == Ledger(ME.node, ledger.counters)
