"""What a verifier says of one prover's proof in one epoch: signed by it, told as the fact `poc`. Pure.

An attestation stands on its own signature, so that whoever keeps a transcript can keep the word about it too.
Whether the word is true is found by checking the transcript that it names; `ledger` remembers what was found.
No figure for VRAM in it is attested: it is what the prover says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import msgspec

from forms.poc.profile import PRESETS, Profile
from gossip.message import MAX_FACT_BYTES
from meshd.attest.worth import lower_rate
from transport import wire
from transport.errors import ProtocolError
from transport.identity import node_id, short, verify
from transport.interface import NodeId

POC_FACT = "poc"
MAX_TOLD = 64
"""Attestations that one node tells: the newest of each prover, so many provers."""
MAX_ATTESTATION_BYTES = 1024
LIFETIME_S = 24 * 3600
CLOCK_SLACK_S = 300
"""Nodes' clocks stray; what was made further in the future than this counts when its time has come."""
SLACK = 1.0 + 1e-6
"""Of rounding, in the rate that a verifier worked out from the counts beside it."""
MAX_SAMPLES = 1024
MAX_FOUND = 1 << 20
MAX_WORK_S = 3600.0
PROFILES = {profile.digest: profile for profile in PRESETS.values()}
_DOMAIN = b"meshd-poc-attestation-v1"

Devices = Annotated[int, msgspec.Meta(ge=1, le=8)]
Found = Annotated[int, msgspec.Meta(ge=0, le=MAX_FOUND)]
Sampled = Annotated[int, msgspec.Meta(ge=0, le=MAX_SAMPLES)]
PhaseName = Literal["idle", "generate", "validate", "stop"]
"""As `forms.poc.phases.Phase` has them."""
Positive = Annotated[float, msgspec.Meta(ge=0, lt=1e18)]


class Findings(msgspec.Struct, frozen=True, array_like=True):
    """What a verifier found about one prover, before it signs.

    epoch: Unix time at which the race was called, which orders them.  profile: `Profile.digest`.  groups: devices in
    each.  found, share, taken_s: kept nonces, of which share of those tried, in how many seconds of the verifier's
    clock.  flop_per_s: the 95 % lower bound.  vram_gb: as the prover says, never attested.  samples, mismatches: how
    many were computed again, and how many of them were off.  transcript: its digest.  made, expires: Unix time.
    """

    prover: wire.Bytes32
    verifier: wire.Bytes32
    epoch: wire.Seconds
    profile: wire.Bytes32
    groups: Annotated[tuple[Devices, ...], msgspec.Meta(min_length=1, max_length=64)]
    found: Found
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    taken_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_WORK_S)]
    flop_per_s: Positive
    vram_gb: Annotated[float, msgspec.Meta(ge=0, lt=1e6)]
    samples: Sampled
    mismatches: Sampled
    verdict: Literal["attested", "fraud"]
    transcript: wire.Bytes32
    made: wire.Seconds
    expires: wire.Seconds

    @property
    def is_honest(self) -> bool:
        return self.verdict == "attested"


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """Findings as they travel, with their verifier's key and signature."""

    findings: Annotated[bytes, msgspec.Meta(max_length=MAX_ATTESTATION_BYTES)]
    public: wire.Bytes32
    signature: wire.Bytes64


class PocFact(msgspec.Struct, frozen=True):
    """The fact `poc`: a verifier's attestations, one of each prover, and what it says of itself.

    phase: what its own proof does now.  claimed_flop_per_s: how fast it says it is; 0 where it was never measured.
    """

    attestations: Annotated[tuple[Signed, ...], msgspec.Meta(max_length=MAX_TOLD)]
    phase: PhaseName = "idle"
    claimed_flop_per_s: Positive = 0.0


NOTHING = PocFact(())


class Signer(Protocol):
    """A verifier's key."""

    public: bytes

    def sign(self, message: bytes) -> bytes:
        """Sign `message`: 64 bytes."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """Findings whose signature was checked, with the bytes to pass on."""

    findings: Findings
    signed: Signed

    @property
    def prover(self) -> NodeId:
        return NodeId(self.findings.prover)

    @property
    def verifier(self) -> NodeId:
        return NodeId(self.findings.verifier)


def lower_flop_per_s(profile: Profile, found: int, share: float, taken_s: float) -> float:
    """The rate that counts show with 95 % certainty, in operations of this profile; 0 where they show nothing."""
    return lower_rate(found, share, taken_s) * profile.operations if share > 0 and taken_s > 0 else 0.0


def attest(findings: Findings, signer: Signer, mesh_id: bytes) -> Attestation:
    """Sign what was found. ValueError when it is not this signer's, or contradicts itself."""
    if reason := fault_of(findings):
        raise ValueError(f"these findings contradict themselves: {reason}")
    if node_id(signer.public) != findings.verifier:
        raise ValueError("a verifier signs its own findings only")
    encoded = wire.encode(findings)
    return Attestation(findings, Signed(encoded, signer.public, signer.sign(_DOMAIN + mesh_id + encoded)))


def open_attestation(signed: Signed, mesh_id: bytes, teller: NodeId) -> Attestation:
    """Check what `teller` told: its signature, its bounds, and that it does not contradict itself.

    Raises ProtocolError naming the teller.
    """
    findings = wire.decode(signed.findings, Findings, peer=teller, max_bytes=MAX_ATTESTATION_BYTES)
    if node_id(signed.public) != findings.verifier:
        raise ProtocolError(f"node {short(teller)} told an attestation with another key than its verifier's")
    if not verify(signed.public, signed.signature, _DOMAIN + mesh_id + signed.findings):
        raise ProtocolError(f"node {short(teller)} told a forged attestation")
    if reason := fault_of(findings):
        raise ProtocolError(f"node {short(teller)} told an attestation that contradicts itself: {reason}")
    return Attestation(findings, signed)


def fault_of(findings: Findings) -> str:
    """What in findings cannot be, whatever the transcript says; "" for nothing."""
    if findings.prover == findings.verifier:
        return "a node attests nothing of itself"
    if not findings.made < findings.expires <= findings.made + LIFETIME_S:
        return f"it lasts {findings.expires - findings.made} s; up to {LIFETIME_S} are allowed"
    if findings.epoch > findings.made + CLOCK_SLACK_S:
        return "it was made before its race was called"
    if findings.mismatches > findings.samples:
        return f"{findings.mismatches} of {findings.samples} samples are off"
    profile = PROFILES.get(findings.profile)
    if profile is None:
        return "it is of a profile that is not known here"
    shown = lower_flop_per_s(profile, findings.found, findings.share, findings.taken_s)
    if not findings.flop_per_s <= shown * SLACK:
        return f"{findings.flop_per_s:.4g} FLOP/s are attested where its counts show {shown:.4g}"
    return ""


def encode_fact(attestations: Iterable[Attestation], phase: PhaseName, claimed_flop_per_s: float) -> bytes:
    """The fact's bytes: the newest, where there are more than may be told."""
    newest = sorted(attestations, key=lambda one: (one.findings.epoch, one.prover), reverse=True)
    return wire.encode(PocFact(tuple(one.signed for one in newest[:MAX_TOLD]), phase, claimed_flop_per_s))


def decode_fact(value: bytes, teller: NodeId) -> PocFact:
    """What `teller` tells, its signatures unchecked. Raises ProtocolError."""
    return wire.decode(value, PocFact, peer=teller, max_bytes=MAX_FACT_BYTES)
