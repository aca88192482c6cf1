"""What a prover commits to, and what it opens of that when asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from forms.poc.computer import Results
from forms.poc.merkle import commit, open_leaves, shows
from forms.poc.philox import Array, words
from forms.poc.profile import ARTEFACT_COORDINATES
from forms.poc.seeds import derive_key

NONCE_BYTES = 8
DISTANCE_BYTES = 4
ARTEFACT_BYTES = 2 * ARTEFACT_COORDINATES


@dataclass(frozen=True, slots=True)
class Claim:
    """What a prover found: nonces, little-endian u64, distances, f32, and the root over both and the artefacts."""

    nonces: bytes
    distances: bytes
    root: bytes

    def __post_init__(self) -> None:
        if len(self.nonces) % NONCE_BYTES or len(self.distances) * NONCE_BYTES != len(self.nonces) * DISTANCE_BYTES:
            raise ValueError(
                f"a distance for each nonce was expected, got {len(self.nonces)} and {len(self.distances)} bytes"
            )

    @property
    def count(self) -> int:
        return len(self.nonces) // NONCE_BYTES

    def nonce_array(self) -> Array:
        return numpy.frombuffer(self.nonces, "<u8")

    def distance_array(self) -> Array:
        return numpy.frombuffer(self.distances, "<f4")

    def leaf(self, index: int, artefact: bytes) -> bytes:
        """What stands under the root for one nonce."""
        nonce = self.nonces[index * NONCE_BYTES :][:NONCE_BYTES]
        return nonce + self.distances[index * DISTANCE_BYTES :][:DISTANCE_BYTES] + artefact


@dataclass(frozen=True, slots=True)
class Opening:
    """One artefact of a claim, 16 little-endian f16, with its path to the root."""

    index: int
    artefact: bytes
    path: tuple[bytes, ...]

    def belongs_to(self, claim: Claim) -> bool:
        """Whether this is what was committed to."""
        if len(self.artefact) != ARTEFACT_BYTES or self.index >= claim.count:
            return False
        return shows(claim.root, claim.count, self.index, claim.leaf(self.index, self.artefact), self.path)


@dataclass(frozen=True, slots=True)
class Work:
    """A claim as its prover keeps it, with the artefacts to open."""

    claim: Claim
    artefacts: bytes

    @classmethod
    def of(cls, results: Results) -> Work:
        """Commit to `results`."""
        nonces, distances = results.nonces.astype("<u8").tobytes(), results.distances.astype("<f4").tobytes()
        artefacts = results.artefacts.astype("<f2").tobytes()
        unrooted = cls(Claim(nonces, distances, b""), artefacts)
        return cls(Claim(nonces, distances, commit(unrooted._leaves())), artefacts)

    def open(self, indices: Sequence[int]) -> tuple[Opening, ...]:
        """What the verifier asked to see."""
        paths = open_leaves(self._leaves(), indices)
        return tuple(Opening(index, self._artefact(index), path) for index, path in zip(indices, paths, strict=True))

    def _leaves(self) -> list[bytes]:
        return [self.claim.leaf(index, self._artefact(index)) for index in range(self.claim.count)]

    def _artefact(self, index: int) -> bytes:
        return self.artefacts[index * ARTEFACT_BYTES :][:ARTEFACT_BYTES]


def sample(root: bytes, secret: bytes, count: int, samples: int) -> list[int]:
    """Which of `count` entries are opened: distinct ones, all where there are no more. secret: told after the root."""
    left = list(range(count))
    wanted = min(samples, count)
    for place, word in enumerate(words(derive_key("sample", root, secret), 0, wanted).tolist()):
        other = place + word % (count - place)  # off by less than count / 2**32
        left[place], left[other] = left[other], left[place]
    return left[:wanted]
