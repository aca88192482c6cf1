"""What everybody computes: the sizes of the networks of profiles `m1` and `x1`, by preset. Pure."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from forms.poc.seeds import derive

FAMILY = "m1"
EXACT_FAMILY = "x1"
"""Integers only, so that every processor finds the same and proofs are compared without statistics."""
THETA = 10_000.0
EPSILON = 1e-5
ARTEFACT_COORDINATES = 16


@dataclass(frozen=True, slots=True)
class Profile:
    """A transformer: its width, depth, heads, inner width, outputs and sequence. Of `x1`: plain layers of one width."""

    name: str
    width: int
    layers: int
    heads: int
    inner: int
    outputs: int
    sequence: int
    family: str = FAMILY

    @property
    def is_exact(self) -> bool:
        return self.family == EXACT_FAMILY

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """How many weights it has; gains are one, and inputs are no tokens."""
        if self.is_exact:
            return (self.layers * self.width + self.outputs) * self.width
        return self.layers * (4 * self.width**2 + 3 * self.width * self.inner) + self.outputs * self.width

    @property
    def operations(self) -> int:
        """Of one nonce, counted as a multiplication and an addition each: what a rate in TFLOP/s goes by."""
        if self.is_exact:
            return 2 * self.parameters
        attention = 4 * self.layers * self.sequence**2 * self.width
        layers = 2 * self.sequence * (self.parameters - self.outputs * self.width)
        return layers + attention + 2 * self.outputs * self.width

    @property
    def digest(self) -> bytes:
        """Names it in what is signed."""
        return derive("meshd poc profile", self.family, *astuple(self)[:-1])


TINY = Profile("tiny", width=64, layers=4, heads=4, inner=256, outputs=256, sequence=16)
SMALL = Profile("small", width=256, layers=8, heads=8, inner=1024, outputs=1024, sequence=32)
EXACT = Profile("exact", 1024, layers=6, heads=1, inner=1024, outputs=1024, sequence=1, family=EXACT_FAMILY)
# None for GPUs: what fills one, and the bounds that honest ones keep there, is for the first measured (poc.md §4.1).
PRESETS = {profile.name: profile for profile in (TINY, SMALL, EXACT)}
