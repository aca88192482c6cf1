"""One example of everything that nodes say on `poc/1`, of a race of two; and the transcript of its one proof."""

from __future__ import annotations

import msgspec

from forms.poc.profile import TINY
from meshd.attest import race_message as said
from meshd.attest.attestation import Attestation
from meshd.attest.epoch import commitment
from meshd.attest.judging import OpenedSample, Samples
from meshd.attest.order import promise_of
from meshd.attest.pairing import claim_body, key_of, openings_body, pledge
from meshd.attest.race import Agreed, agree, enter
from meshd.attest.transcript import Transcript, encode_transcript
from tests.golden import Example
from transport import wire
from transport.identity import NodeKey

MESH_ID = b"m" * 16
PROVER, VERIFIER = sorted((NodeKey(b"\x08" * 32), NodeKey(b"\x07" * 32)), key=lambda key: key.node)
TERMS = said.Terms(PROVER.node, 1_790_000_000, b"t" * 16, TINY.digest, 0.2, 5.0)
SECRETS = (b"\x11" * 32, b"\x12" * 32)
ENTRIES = tuple(
    enter(TERMS, 0, secret, ((1,), 24.0), key, MESH_ID) for secret, key in zip(SECRETS, (PROVER, VERIFIER), strict=True)
)
AGREED = Agreed(MESH_ID, TERMS, 0, ENTRIES, SECRETS)
RACE = agree(AGREED)
OWN, PLEDGED, SAMPLE, ROOT = (bytes([number]) * 32 for number in (0x21, 0x22, 0x23, 0x24))
PLEDGE = pledge(RACE, PROVER.node, commitment(PROVER.node, OWN), PLEDGED, VERIFIER)
NONCES, DISTANCES = bytes(range(16)), bytes(range(8))
_KEY = key_of(RACE, PROVER.node, OWN, (PLEDGE,), (PLEDGED,))
CLAIM = said.Claim(
    (PLEDGED,),
    NONCES,
    DISTANCES,
    ROOT,
    PROVER.sign(claim_body(RACE, VERIFIER.node, promise_of(SAMPLE), _KEY, ROOT, NONCES + DISTANCES)),
)
SAMPLES = wire.encode(Samples((OpenedSample(1, b"a" * 32, (b"p" * 32,)),)))
OPENINGS = said.Openings(SAMPLES, PROVER.sign(openings_body(CLAIM.signature, SAMPLE, SAMPLES)))
TRANSCRIPT = Transcript(AGREED, PROVER.node, VERIFIER.node, OWN, (PLEDGE,), CLAIM, SAMPLE, OPENINGS, 5.25)


def race_examples(attestation: Attestation) -> dict[str, Example]:
    """By file name."""
    messages: dict[str, tuple[str, msgspec.Struct]] = {
        "call": ("A race is called", said.Call(TERMS, 0)),
        "commit": ("A claimant takes part", said.Commit(ENTRIES[1])),
        "declined": ("A node does not go on", said.Declined("it is in another race")),
        "roster": ("All who take part", said.Roster(ENTRIES)),
        "reveal": ("A claimant shows its secret", said.Reveal(SECRETS[1])),
        "start": ("The race is on", said.Start(SECRETS)),
        "report": ("How it went for a claimant", said.Report((attestation.signed,))),
        "hello": ("A prover greets its verifier", said.Hello(RACE.digest, commitment(PROVER.node, OWN))),
        "promise": ("A verifier promises", said.Promise(PLEDGE, promise_of(SAMPLE))),
        "meet": ("A prover shows its part of the key", said.Meet(OWN, (PLEDGE,))),
        "shown": ("A verifier shows its part", said.Shown(PLEDGED)),
        "claim": ("A prover commits to what it found", CLAIM),
        "sample": ("A verifier picks", said.Sample(SAMPLE)),
        "openings": ("A prover opens what was picked", OPENINGS),
        "verdict": ("A verifier attests", said.Verdict(attestation.signed)),
        "fetch": ("A transcript is asked for", said.Fetch(b"\x04" * 32)),
        "found": ("It follows", said.Found()),
        "missing": ("It is not here", said.Missing()),
    }
    examples = {
        f"race_{name}": Example(about, f"meshd.attest.race_message.{type(message).__name__}", wire.encode(message))
        for name, (about, message) in messages.items()
    }
    return examples | {
        "race_samples": Example("What lies in `Openings.samples`", "meshd.attest.judging.Samples", SAMPLES),
        "race_transcript": Example("A transcript", "meshd.attest.transcript.Transcript", encode_transcript(TRANSCRIPT)),
    }
