"""One example of every message that `meshd` itself puts on the wire."""

from __future__ import annotations

from forms.poc.profile import TINY
from meshd.attest.attestation import Findings, attest, encode_fact, lower_flop_per_s
from meshd.clocks import ClockReading
from meshd.mesh_facts import encode_delegates, encode_roots
from tests.golden import Example
from tests.meshd.attest.examples import race_examples
from tests.transport.examples import DELEGATE, MEMBER, SUCCESSION
from transport import wire
from transport.identity import NodeKey

VERIFIER = NodeKey(b"\x07" * 32)
FINDINGS = Findings(
    prover=b"\x02" * 32,
    verifier=VERIFIER.node,
    epoch=1_790_000_000,
    profile=TINY.digest,
    groups=(1, 2),
    found=400,
    share=0.05,
    taken_s=10.0,
    flop_per_s=lower_flop_per_s(TINY, 400, 0.05, 10.0),
    vram_gb=24.0,
    samples=64,
    mismatches=1,
    verdict="attested",
    transcript=b"\x04" * 32,
    made=1_790_000_020,
    expires=1_790_086_420,
)


def examples() -> dict[str, Example]:
    """By file name."""
    delegates = encode_delegates([DELEGATE.node, MEMBER.node])
    attestation = attest(FINDINGS, VERIFIER, b"m" * 16)
    return {
        "poc_findings": Example("What a verifier signs", "meshd.attest.attestation.Findings", wire.encode(FINDINGS)),
        "fact_poc": Example(
            "The fact `poc`", "meshd.attest.attestation.PocFact", encode_fact([attestation], "idle", 1.5e9)
        ),
        "clock": Example(
            "What time it is for a node", "meshd.clocks.ClockReading", wire.encode(ClockReading(1_790_000_000.25))
        ),
        "fact_roots": Example("The fact `roots`", "meshd.mesh_facts.RootsFact", encode_roots((SUCCESSION,))),
        "fact_delegates": Example("The fact `delegates`", "meshd.mesh_facts.DelegatesFact", delegates),
        **race_examples(attestation),
    }
