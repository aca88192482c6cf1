"""One host's rate, measured: how many nonces a minute it finds, and what it costs to check them. Keeps a proof on file.

Such a proof is its maker's own word for the time it took and for the secret that picked the samples: it shows that the
work was done, not how fast, and convinces nobody else of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec
import psutil

from forms.poc.batch_size import batch_size
from forms.poc.claim import ARTEFACT_BYTES, Claim, Opening, Work, sample
from forms.poc.computer import Computer
from forms.poc.generation import Assignment, generate, joined
from forms.poc.nonces import Residue
from forms.poc.profile import PRESETS, Profile
from forms.poc.seeds import derive, derive_key
from forms.poc.verification import SAMPLES, Judgement, judge_claim
from transport.wire import Bytes32, decode, encode

MEASURED_SHARE = 0.2
MOST_NONCES = 1 << 20
MAX_PROOF_BYTES = 12 * MOST_NONCES + (1 << 20)
BATCH = 32
"""Small enough that a batch's states stay near the processor, and that the clock is looked at often."""


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

    @property
    def count(self) -> int:
        return len(self.nonces) // 8


@dataclass(frozen=True, slots=True)
class Measured:
    """tested_per_s: nonces run through the network.  verify_over_generate: of one claim, in time."""

    preset: str
    nonces: int
    nonces_per_minute: float
    tested_per_s: float
    gflop_per_s: float
    init_s: float
    generate_s: float
    verify_s: float
    verify_over_generate: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def assignment_of(profile: Profile, seed: bytes, share: float) -> Assignment:
    """What a host that is alone does in an epoch of its own."""
    return Assignment(profile, seed, derive_key("own input", seed), share, Residue(0, 1, 1))


def measure(assignment: Assignment, seconds: float, progress: Callable[[float], None]) -> tuple[Measured, Proof]:
    """Search for so many seconds, and on until enough is found for a verdict; then check what was found."""
    started = time.perf_counter()
    computer = Computer.prepare(assignment.profile, assignment.seed)
    init_s = time.perf_counter() - started
    work, tested, generate_s = _search(computer, assignment, seconds, progress)
    secret = derive("own secret", assignment.seed, work.claim.root)
    started = time.perf_counter()
    openings = work.open(sample(work.claim.root, secret, work.claim.count, SAMPLES))
    judgement = judge_claim(computer, assignment, work.claim, secret, openings)
    verify_s = time.perf_counter() - started
    if not judgement.is_honest:
        raise RuntimeError(f"this host does not confirm its own work: {judgement.reason}")
    rate = tested / generate_s
    found = (work.claim.count, 60 * work.claim.count / generate_s, rate, rate * assignment.profile.operations / 1e9)
    times = (init_s, generate_s, verify_s, verify_s / generate_s)
    return Measured(assignment.profile.name, *found, *times), _proof(assignment, work.claim, secret, openings)


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
    assignment = assignment_of(PRESETS[proof.preset], proof.seed, proof.share)
    claim = Claim(proof.nonces, proof.distances, proof.root)
    if proof.secret != derive("own secret", proof.seed, proof.root):
        return Judgement("its samples were picked by another secret than its root's")
    openings = [Opening(one.index, one.artefact, one.path) for one in proof.openings]
    return judge_claim(Computer.prepare(assignment.profile, proof.seed), assignment, claim, proof.secret, openings)


def _search(
    computer: Computer, assignment: Assignment, seconds: float, progress: Callable[[float], None]
) -> tuple[Work, int, float]:
    """The work, how many nonces were tested for it, and the seconds that it took."""
    batch = batch_size(assignment.profile, psutil.virtual_memory().available, BATCH)
    parts, started = [], time.perf_counter()
    for part in generate(computer, assignment, 0, batch):
        parts.append(part)
        spent_s = time.perf_counter() - started
        progress(min(spent_s, seconds))
        found = sum(len(one.nonces) for one in parts)
        if found >= MOST_NONCES - batch or (spent_s >= seconds and found >= SAMPLES):
            return Work.of(joined(parts)), len(parts) * batch, spent_s
    raise AssertionError("generating has no end")


def _proof(assignment: Assignment, claim: Claim, secret: bytes, openings: tuple[Opening, ...]) -> Proof:
    opened = tuple(OpenedSample(one.index, one.artefact, one.path) for one in openings)
    setting = (assignment.profile.name, assignment.seed, assignment.share)
    return Proof(*setting, claim.nonces, claim.distances, claim.root, secret, opened)
