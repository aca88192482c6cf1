"""What everybody computes: the sizes of the network of profile `m1`, by preset. Pure."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from forms.poc.seeds import derive

FAMILY = "m1"
THETA = 10_000.0
EPSILON = 1e-5
ARTEFACT_COORDINATES = 16


@dataclass(frozen=True, slots=True)
class Profile:
    """A transformer: its width, depth, heads, inner width, outputs and sequence."""

    name: str
    width: int
    layers: int
    heads: int
    inner: int
    outputs: int
    sequence: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """How many weights it has; gains are one, and inputs are no tokens."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.inner) + self.outputs * self.width

    @property
    def operations(self) -> int:
        """Of one nonce, counted as a multiplication and an addition each: what a rate in TFLOP/s goes by."""
        attention = 4 * self.layers * self.sequence**2 * self.width
        layers = 2 * self.sequence * (self.parameters - self.outputs * self.width)
        return layers + attention + 2 * self.outputs * self.width

    @property
    def digest(self) -> bytes:
        """Names it in what is signed."""
        return derive("meshd poc profile", FAMILY, *astuple(self))


TINY = Profile("tiny", width=64, layers=4, heads=4, inner=256, outputs=256, sequence=16)
SMALL = Profile("small", width=256, layers=8, heads=8, inner=1024, outputs=1024, sequence=32)
# On one H200 nothing is known yet of a preset that fills it: it stays out until one was measured (poc.md §4.1).
PRESETS = {profile.name: profile for profile in (TINY, SMALL)}
