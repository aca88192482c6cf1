"""9: whoever opens other work than it committed to, shows a secret early or withholds one, gets no proof."""

from __future__ import annotations

import pytest

from forms.poc.profile import TINY
from meshd.attest.epoch import RevealRefused, commitment, epoch_seed, input_key, verifiers_of
from meshd.attest.order import ANSWER_S, GRACE_S, OutOfOrder, ProverOrder, VerifierOrder, promise_of
from transport.interface import NodeId

SECRET = b"s" * 32
NODES = [NodeId(bytes([number]) * 32) for number in range(6)]
REVEALS = {node: bytes([number]) * 16 for number, node in enumerate(NODES)}
COMMITMENTS = {node: commitment(node, secret) for node, secret in REVEALS.items()}


ROOT = b"r" * 32


def ends() -> tuple[VerifierOrder, ProverOrder]:
    return VerifierOrder(SECRET, started=100.0, work_s=5.0), ProverOrder(promise_of(SECRET))


def test_in_order_the_openings_belong_to_what_was_committed_to() -> None:
    verifier, prover = ends()
    prover.commit(ROOT, 105.0)
    secret = verifier.commit(ROOT, 105.5)
    assert prover.open(secret, 106.0) == ROOT
    assert verifier.open(106.5) == ROOT
    assert verifier.taken_s == 5.5


def test_work_changed_after_the_secret_is_refused() -> None:
    verifier, prover = ends()
    prover.commit(ROOT, 105.0)
    verifier.commit(ROOT, 105.5)
    with pytest.raises(OutOfOrder, match="second claim"):
        verifier.commit(b"s" * 32, 106.5)
    with pytest.raises(OutOfOrder, match="committed to once"):
        prover.commit(b"s" * 32, 106.5)


def test_a_secret_before_the_commitment_is_refused() -> None:
    _, prover = ends()
    with pytest.raises(OutOfOrder, match="before the work was committed to"):
        prover.open(SECRET, 101.0)


def test_another_secret_than_the_promised_is_refused() -> None:
    _, prover = ends()
    prover.commit(ROOT, 105.0)
    with pytest.raises(OutOfOrder, match="another secret"):
        prover.open(b"t" * 32, 106.0)


def test_who_withholds_a_reveal_is_too_late() -> None:
    verifier, prover = ends()
    prover.commit(ROOT, 105.0)
    with pytest.raises(OutOfOrder, match="secret came too late"):
        prover.open(SECRET, 105.0 + ANSWER_S + 0.1)
    verifier.commit(ROOT, 105.5)
    with pytest.raises(OutOfOrder, match="openings came too late"):
        verifier.open(105.5 + ANSWER_S + 0.1)


def test_the_verifiers_clock_bounds_the_work() -> None:
    verifier, _ = ends()
    with pytest.raises(OutOfOrder, match="after its time"):
        verifier.commit(ROOT, 105.1 + GRACE_S)
    with pytest.raises(OutOfOrder, match="before a claim"):
        verifier.open(101.0)


@pytest.mark.parametrize("shown", [None, b"another"], ids=["withheld", "changed"])
def test_an_epoch_starts_anew_without_who_does_not_reveal(shown: bytes | None) -> None:
    reveals = {node: secret for node, secret in REVEALS.items() if node != NODES[2]}
    reveals |= {NODES[2]: shown} if shown else {}
    with pytest.raises(RevealRefused) as refused:
        epoch_seed(COMMITMENTS, reveals)
    assert refused.value.nodes == {NODES[2]}


def test_every_claimants_bytes_change_the_seed_and_nobody_elses_commitment_can_be_shown() -> None:
    seed = epoch_seed(COMMITMENTS, REVEALS)
    other = REVEALS | {NODES[5]: b"other"}
    assert seed != epoch_seed({node: commitment(node, secret) for node, secret in other.items()}, other)
    with pytest.raises(RevealRefused):
        epoch_seed({NODES[1]: COMMITMENTS[NODES[0]]}, {NODES[1]: REVEALS[NODES[0]]})


def test_three_others_verify_and_the_seed_says_who() -> None:
    chosen = [verifiers_of(bytes([number]) * 32, NODES[0], NODES) for number in range(40)]
    assert all(len(set(three)) == 3 and NODES[0] not in three for three in chosen)
    assert {node for three in chosen for node in three} == set(NODES[1:])
    assert verifiers_of(b"", NODES[0], NODES[:2]) == (NODES[1],)
    assert verifiers_of(b"seed", NODES[0], NODES) == verifiers_of(b"seed", NODES[0], NODES[::-1])


def test_inputs_bind_the_epoch_the_prover_and_both_ends_randomness() -> None:
    theirs = {NODES[1]: b"v", NODES[2]: b"w"}
    keys = {
        input_key(b"e", NODES[0], b"p", theirs, TINY),
        input_key(b"f", NODES[0], b"p", theirs, TINY),
        input_key(b"e", NODES[3], b"p", theirs, TINY),
        input_key(b"e", NODES[0], b"q", theirs, TINY),
        input_key(b"e", NODES[0], b"p", theirs | {NODES[2]: b"x"}, TINY),
    }
    assert len(keys) == 5
