"""A prover and its verifiers in one race: the input key that none of them could choose, and what each signs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from forms.poc.seeds import derive
from meshd.attest.attestation import Signer
from meshd.attest.epoch import commitment, input_key
from meshd.attest.race import Race
from meshd.attest.race_message import Pledge
from transport.identity import node_id, verify
from transport.interface import NodeId

_PLEDGE_DOMAIN = b"meshd-poc-pledge-v1"
_CLAIM_DOMAIN = b"meshd-poc-claim-v1"
_OPENINGS_DOMAIN = b"meshd-poc-openings-v1"


def pledge(race: Race, prover: NodeId, theirs: bytes, secret: bytes, signer: Signer) -> Pledge:
    """Commit to `secret` for one prover. theirs: what the prover committed to before, so that it cannot follow."""
    hidden = commitment(node_id(signer.public), secret)
    return Pledge(signer.public, hidden, signer.sign(_pledge_body(race, prover, theirs, hidden)))


def fault_of_pledges(race: Race, prover: NodeId, theirs: bytes, pledges: Sequence[Pledge]) -> str:
    """What is wrong with the pledges that a prover shows; "" for nothing."""
    nodes = [node_id(one.public) for one in pledges]
    if sorted(set(nodes)) != nodes or not set(nodes) <= set(race.verifiers(prover)):
        return "the pledges are not its verifiers', once each, by NodeId"
    if not all(
        verify(one.public, one.signature, _pledge_body(race, prover, theirs, one.commitment)) for one in pledges
    ):
        return "a verifier did not sign its pledge"
    return ""


def fault_of_secrets(pledges: Sequence[Pledge], secrets: Sequence[bytes]) -> str:
    """Whether verifiers showed what they had pledged; "" where they did."""
    shown = [commitment(node_id(one.public), secret) for one, secret in zip(pledges, secrets, strict=False)]
    return "" if shown == [one.commitment for one in pledges] else "a verifier showed another secret than it pledged"


def key_of(race: Race, prover: NodeId, own: bytes, pledges: Sequence[Pledge], secrets: Sequence[bytes]) -> int:
    """The prover's input key."""
    theirs = {node_id(one.public): secret for one, secret in zip(pledges, secrets, strict=True)}
    return input_key(race.seed, prover, own, theirs, race.profile)


def claim_body(race: Race, verifier: NodeId, promise: bytes, key: int, root: bytes, found: bytes) -> bytes:
    """What a prover signs of its claim. promise: of the samples' secret.  found: its nonces and distances."""
    return _CLAIM_DOMAIN + derive("poc claim", race.digest, verifier, promise, key, root, found)


def openings_body(claim_signature: bytes, secret: bytes, samples: bytes) -> bytes:
    """What a prover signs of what it opened."""
    return _OPENINGS_DOMAIN + derive("poc openings", claim_signature, secret, samples)


def _pledge_body(race: Race, prover: NodeId, theirs: bytes, hidden: bytes) -> bytes:
    return _PLEDGE_DOMAIN + derive("poc pledge", race.digest, prover, theirs, hidden)
