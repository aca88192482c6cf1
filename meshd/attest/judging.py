"""What a transcript shows of its prover: read, checked and computed again. The same for its verifier and anybody else.

Pure, but heavy: for the process that computes, and for the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from forms.poc.claim import ARTEFACT_BYTES, Claim, Opening
from forms.poc.computer import Computer
from forms.poc.generation import Assignment
from forms.poc.nonces import Residue
from forms.poc.profile import Profile
from forms.poc.verification import LEAST_FOUND, SAMPLES, Judgement, judge_claim
from meshd.attest.race import Race
from meshd.attest.race_message import MAX_NONCES, MAX_OPENINGS_BYTES
from meshd.attest.transcript import Judged, Transcript, Void, check_signatures, decode_transcript, race_of
from transport import wire
from transport.errors import ProtocolError
from transport.interface import NodeId


class OpenedSample(msgspec.Struct, frozen=True, array_like=True):
    """A `claim.Opening` as it travels."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_NONCES)]
    artefact: Annotated[bytes, msgspec.Meta(min_length=ARTEFACT_BYTES, max_length=ARTEFACT_BYTES)]
    path: Annotated[tuple[wire.Bytes32, ...], msgspec.Meta(max_length=16)]


class Samples(msgspec.Struct, frozen=True, array_like=True):
    """What a prover opened."""

    opened: Annotated[tuple[OpenedSample, ...], msgspec.Meta(max_length=SAMPLES)]


def encode_openings(openings: Sequence[Opening]) -> bytes:
    return wire.encode(Samples(tuple(OpenedSample(one.index, one.artefact, one.path) for one in openings)))


def judge_transcript(encoded: bytes) -> Judged:
    """What it shows, whoever asks."""
    try:
        transcript = decode_transcript(encoded, None, "this transcript")
        race = race_of(transcript)
        key = check_signatures(transcript, race)
    except (ProtocolError, Void) as error:
        return Judged("void", str(error))
    if len(transcript.claim.nonces) < 8 * LEAST_FOUND:
        return Judged("void", f"fewer than {LEAST_FOUND} nonces say nothing of a speed, nor of honesty")
    judgement = _judge(transcript, race, key)
    verdict = judgement.verdict
    name: Literal["attested", "fraud"] = "attested" if judgement.is_honest else "fraud"
    if verdict is None:
        return Judged(name, judgement.reason)
    return Judged(name, judgement.reason, verdict.samples, verdict.soft, min(verdict.worst, 1e9))


def assignment_of(race: Race, prover: NodeId, key: int) -> Assignment:
    """What a prover has to do in a race."""
    residue = Residue(race.claimants.index(prover), len(race.claimants), len(race.entry(prover).groups))
    return Assignment(race.profile, race.seed, key, race.terms.share, residue)


@lru_cache(maxsize=2)
def computer_of(profile: Profile, seed: bytes) -> Computer:
    """A race's network: made once for all who are checked in it."""
    return Computer.prepare(profile, seed)


def _judge(transcript: Transcript, race: Race, key: int) -> Judgement:
    """What the prover signed and is not so is its own fault, whatever the samples say."""
    said = transcript.claim
    try:
        claim = Claim(said.nonces, said.distances, said.root)
        samples = wire.decode(
            transcript.openings.samples, Samples, peer=NodeId(transcript.prover), max_bytes=MAX_OPENINGS_BYTES
        )
    except (ValueError, ProtocolError) as error:
        return Judgement(str(error))
    openings = [Opening(one.index, one.artefact, one.path) for one in samples.opened]
    assignment = assignment_of(race, NodeId(transcript.prover), key)
    return judge_claim(computer_of(race.profile, race.seed), assignment, claim, transcript.sample, openings)
