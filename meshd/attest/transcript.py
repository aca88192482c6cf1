"""All that was said in one proof, so that anybody can judge it anew. Pure.

The prover signed its claim and what it opened, its verifiers their pledges, and each claimant its entry; the verifier
signs the transcript's digest in its attestation. What a transcript says of time is its verifier's word alone.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from meshd.attest.attestation import Findings, Signed
from meshd.attest.epoch import RevealRefused, commitment
from meshd.attest.order import promise_of
from meshd.attest.pairing import claim_body, fault_of_pledges, fault_of_secrets, key_of, openings_body
from meshd.attest.race import Agreed, Race, agree, fault_of_roster
from meshd.attest.race_message import MAX_CLAIMANTS, MAX_TRANSCRIPT_BYTES, Claim, Openings, Pledge
from transport import wire
from transport.identity import node_id, verify
from transport.interface import NodeId

MAX_FILE_BYTES = MAX_TRANSCRIPT_BYTES + 2048
FILE_TAG = "meshd poc race 1"


class Transcript(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One prover's proof to one verifier. own: the prover's part of its key.  sample: the secret that picked."""

    agreed: Agreed
    prover: wire.Bytes32
    verifier: wire.Bytes32
    own: wire.Bytes32
    pledges: Annotated[tuple[Pledge, ...], msgspec.Meta(min_length=1, max_length=3)]
    claim: Claim
    sample: wire.Bytes32
    openings: Openings
    taken_s: Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Kept(msgspec.Struct, frozen=True, tag=FILE_TAG):
    """A transcript on file, and what its verifier attests of it."""

    transcript: Annotated[bytes, msgspec.Meta(max_length=MAX_TRANSCRIPT_BYTES)]
    signed: Signed


class Judged(msgspec.Struct, frozen=True):
    """What a transcript shows. void: nothing about the prover, for `reason`.  mismatches: of the samples, how many.

    worst: the largest error of a sample.
    """

    verdict: Literal["attested", "fraud", "void"]
    reason: str = ""
    samples: int = 0
    mismatches: int = 0
    worst: float = 0.0


class Void(Exception):
    """A transcript that shows nothing about its prover: who made it is to blame."""


def encode_transcript(transcript: Transcript) -> bytes:
    return wire.encode(transcript)


def decode_transcript(data: bytes, peer: NodeId | None, source: str = "") -> Transcript:
    """Raises ProtocolError."""
    return wire.decode(
        data, Transcript, peer=peer, max_bytes=MAX_TRANSCRIPT_BYTES, max_items=MAX_CLAIMANTS, source=source
    )


def decode_kept(data: bytes) -> Kept:
    """Read a file. Raises ProtocolError."""
    return wire.decode(data, Kept, peer=None, max_bytes=MAX_FILE_BYTES, source="this file")


def digest_of(encoded: bytes) -> bytes:
    """The name of a transcript."""
    return hashlib.sha256(encoded).digest()


def race_of(transcript: Transcript) -> Race:
    """The race that it was made in, each signature of it checked. Raises Void."""
    agreed = transcript.agreed
    try:
        race = agree(agreed)
    except (RevealRefused, ValueError) as error:
        raise Void(f"its race was not agreed on: {error}") from error
    if fault := fault_of_roster(agreed.entries, agreed.terms, agreed.round, agreed.mesh_id):
        raise Void(f"its race was not agreed on: {fault}")
    return race


def check_signatures(transcript: Transcript, race: Race) -> int:
    """That the prover signed all this for its verifier: its input key. Raises Void."""
    prover, verifier = NodeId(transcript.prover), NodeId(transcript.verifier)
    if prover not in race.claimants or verifier not in race.verifiers(prover):
        raise Void("this verifier was not the prover's in this race")
    claim, pledges = transcript.claim, transcript.pledges
    theirs = commitment(prover, transcript.own)
    if fault := fault_of_pledges(race, prover, theirs, pledges) or fault_of_secrets(pledges, claim.secrets):
        raise Void(fault)
    if len(claim.secrets) != len(pledges) or verifier not in {node_id(one.public) for one in pledges}:
        raise Void("the verifier's own pledge is not among the pledges")
    key, public = key_of(race, prover, transcript.own, pledges, claim.secrets), race.entry(prover).public
    promise = promise_of(transcript.sample)
    said = claim_body(race, verifier, promise, key, claim.root, claim.nonces + claim.distances)
    if not verify(public, claim.signature, said):
        raise Void("the prover did not sign this claim")
    opened = openings_body(claim.signature, transcript.sample, transcript.openings.samples)
    if not verify(public, transcript.openings.signature, opened):
        raise Void("the prover did not sign what was opened")
    return key


def contradiction(findings: Findings, transcript: Transcript) -> str:
    """What in `findings` is not as the transcript has it, judgement aside; "" for nothing."""
    terms = transcript.agreed.terms
    entries = {node_id(entry.public): entry for entry in transcript.agreed.entries}
    entry = entries.get(NodeId(transcript.prover))
    said = (findings.prover, findings.verifier, findings.epoch, findings.profile, findings.share, findings.taken_s)
    shown = (transcript.prover, transcript.verifier, terms.epoch, terms.profile, terms.share, transcript.taken_s)
    if said != shown or findings.found != len(transcript.claim.nonces) // 8:
        return "it is about another proof"
    if entry is None or (findings.groups, findings.vram_gb) != (entry.groups, entry.vram_gb):
        return "it tells other devices than the prover did"
    return ""


def read_digest(text: str) -> bytes:
    """A transcript's name as people type it. ValueError."""
    cleaned = text.strip().lower()
    if len(cleaned) != 64 or not set(cleaned) <= set("0123456789abcdef"):
        raise ValueError("the name of a transcript has 64 hex digits")
    return bytes.fromhex(cleaned)
