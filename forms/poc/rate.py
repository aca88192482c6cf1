"""One host's rate, measured: how many nonces a minute it finds, and what it costs to check them. Keeps a proof on file.

Such a proof is its maker's own word for the time it took and for the secret that picked the samples: it shows that the
work was done, not how fast, and convinces nobody else of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec

from forms.poc.claim import ARTEFACT_BYTES, Claim, Opening, Work, sample
from forms.poc.computer import Computer
from forms.poc.generation import Assignment, joined
from forms.poc.group_search import HostSearch, Searched
from forms.poc.nonces import Residue
from forms.poc.phases import Phase, enter
from forms.poc.profile import PRESETS, Profile
from forms.poc.seeds import derive, derive_key
from forms.poc.verification import SAMPLES, Judgement, judge_claim
from transport.wire import Bytes32, decode, encode

MEASURED_SHARE = 0.2
MOST_NONCES = 1 << 20
MAX_PROOF_BYTES = 12 * MOST_NONCES + (1 << 20)


class OpenedSample(msgspec.Struct, frozen=True, array_like=True):
    """A `claim.Opening` on file."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=MOST_NONCES)]
    artefact: Annotated[bytes, msgspec.Meta(min_length=ARTEFACT_BYTES, max_length=ARTEFACT_BYTES)]
    path: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=20)]


class Proof(msgspec.Struct, frozen=True, tag="meshd poc proof 1"):
    """A claim with its openings, and all that they are checked by."""

    preset: Annotated[str, msgspec.Meta(max_length=16)]
    seed: Bytes32
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    nonces: Annotated[bytes, msgspec.Meta(max_length=8 * MOST_NONCES)]
    distances: Annotated[bytes, msgspec.Meta(max_length=4 * MOST_NONCES)]
    root: Bytes32
    secret: Bytes32
    openings: Annotated[tuple[OpenedSample, ...], msgspec.Meta(max_length=SAMPLES)]
    groups: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1

    @property
    def count(self) -> int:
        return len(self.nonces) // 8


@dataclass(frozen=True, slots=True)
class Measured:
    """tested_per_s: nonces run through the network, of all groups.  relative_sd: of the rate, 1 / sqrt(nonces).

    tflop_per_s_at_least: the lower bound that verifiers would attest.  groups: devices of each, [] for the processor.
    cores: that searching got; fewer than groups × threads where other programs took the rest, and the rate with it.
    batches: of each group.  verify_over_generate: of one claim, in time of one process.  vram: that none is proved.
    """

    preset: str
    groups: list[list[int]]
    batches: list[int]
    threads: int
    nonces: int
    nonces_per_minute: float
    relative_sd: float
    tested_per_s: float
    cores: float
    gflop_per_s: float
    tflop_per_s_at_least: float
    init_s: float
    generate_s: float
    verify_s: float
    verify_over_generate: float
    vram: str = "not attested"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def assignment_of(profile: Profile, seed: bytes, share: float, groups: int = 1) -> Assignment:
    """What a host that is alone does in an epoch of its own."""
    return Assignment(profile, seed, derive_key("own input", seed), share, Residue(0, 1, groups))


def measure(
    search: HostSearch, profile: Profile, seed: bytes, seconds: float, progress: Callable[[float], None]
) -> tuple[Measured, Proof]:
    """Search for so many seconds, and on until enough is found for a verdict; then check what was found.

    `pin_threads` before NumPy is loaded here, or checking takes other threads than searching. Raises
    GroupFailed.
    """
    assignment = assignment_of(profile, seed, MEASURED_SHARE, len(search.groups))
    parts = search.run(assignment, seconds, SAMPLES, MOST_NONCES, progress)
    work = Work.of(joined(part.found.results for part in parts))
    search.phase = enter(search.phase, Phase.VALIDATE)
    proof, verify_s = _checked(assignment, work)
    search.phase = enter(search.phase, Phase.STOP)
    return _measured(search, assignment, parts, verify_s), proof


def _checked(assignment: Assignment, work: Work) -> tuple[Proof, float]:
    """A proof of the work, and the seconds that its verifier takes beside making the network."""
    computer = Computer.prepare(assignment.profile, assignment.seed)
    secret = derive("own secret", assignment.seed, work.claim.root)
    started = time.perf_counter()
    openings = work.open(sample(work.claim.root, secret, work.claim.count, SAMPLES))
    judgement = judge_claim(computer, assignment, work.claim, secret, openings)
    verify_s = time.perf_counter() - started
    if not judgement.is_honest:
        raise RuntimeError(f"this host does not confirm its own work: {judgement.reason}")
    return _proof(assignment, work.claim, secret, openings), verify_s


def _measured(search: HostSearch, assignment: Assignment, parts: Sequence[Searched], verify_s: float) -> Measured:
    nonces, profile = sum(len(part.found.results.nonces) for part in parts), assignment.profile
    generate_s = max(part.found.spent_s for part in parts)
    tested_per_s = sum(part.found.tested / part.found.spent_s for part in parts)
    at_least = max(0.0, nonces - 1.645 * nonces**0.5) / (assignment.share * generate_s)
    return Measured(
        preset=profile.name,
        groups=[list(part.devices) for part in parts],
        batches=[part.ready.batch for part in parts],
        threads=search.threads,
        nonces=nonces,
        nonces_per_minute=60 * nonces / generate_s,
        relative_sd=nonces**-0.5,
        tested_per_s=tested_per_s,
        cores=sum(part.found.processor_s / part.found.spent_s for part in parts),
        gflop_per_s=tested_per_s * profile.operations / 1e9,
        tflop_per_s_at_least=at_least * profile.operations / 1e12,
        init_s=max(part.ready.init_s for part in parts),
        generate_s=generate_s,
        verify_s=verify_s,
        verify_over_generate=verify_s / generate_s,
    )


def encode_proof(proof: Proof) -> bytes:
    """Its bytes on file."""
    return encode(proof)


def decode_proof(data: bytes) -> Proof:
    """Read a proof. Raises ProtocolError."""
    return decode(data, Proof, peer=None, max_bytes=MAX_PROOF_BYTES, source="this file")


def judge_proof(proof: Proof) -> Judgement:
    """Whether a proof holds: its network is made again. ValueError for one that names no preset, or is cut."""
    if proof.preset not in PRESETS:
        raise ValueError(f"a preset of {', '.join(PRESETS)} was expected, got {proof.preset!r}")
    assignment = assignment_of(PRESETS[proof.preset], proof.seed, proof.share, proof.groups)
    claim = Claim(proof.nonces, proof.distances, proof.root)
    if proof.secret != derive("own secret", proof.seed, proof.root):
        return Judgement("its samples were picked by another secret than its root's")
    openings = [Opening(one.index, one.artefact, one.path) for one in proof.openings]
    return judge_claim(Computer.prepare(assignment.profile, proof.seed), assignment, claim, proof.secret, openings)


def _proof(assignment: Assignment, claim: Claim, secret: bytes, openings: tuple[Opening, ...]) -> Proof:
    opened = tuple(OpenedSample(one.index, one.artefact, one.path) for one in openings)
    setting = (assignment.profile.name, assignment.seed, assignment.share)
    return Proof(*setting, claim.nonces, claim.distances, claim.root, secret, opened, assignment.residue.groups)
