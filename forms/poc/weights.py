"""The network's weights, from a seed: every one a fresh word, exact in half precision. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy

from forms.poc.philox import Array, words
from forms.poc.profile import FAMILY, Profile
from forms.poc.seeds import derive_key

BYTES_SUM_DEVIATION = 147.8
"""Standard deviation of the sum of four uniform bytes."""
_SLICE_WORDS = 1 << 22


@dataclass(frozen=True, slots=True)
class Layer:
    """One block; each matrix is (out, in)."""

    query: Array
    key: Array
    value: Array
    mixed: Array
    gate: Array
    up: Array
    down: Array


@dataclass(frozen=True, slots=True)
class Weights:
    """All of them, float32 that half precision holds exactly."""

    layers: Sequence[Layer]
    output: Array


def make_weights(profile: Profile, seed: bytes, xp: ModuleType = numpy) -> Weights:
    """The weights of an epoch."""
    width, inner = profile.width, profile.inner
    shapes = dict.fromkeys(("query", "key", "value", "mixed"), (width, width))
    shapes |= {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}
    layers = [
        Layer(**{name: _matrix(profile, seed, f"{number}.{name}", shape, xp) for name, shape in shapes.items()})
        for number in range(profile.layers)
    ]
    return Weights(layers, _matrix(profile, seed, "output", (profile.outputs, width), xp))


def centred_bytes(random_words: Array, xp: ModuleType = numpy) -> Array:
    """The sum of each word's four bytes less 510: an integer within ±510, near enough to normal."""
    pairs = (random_words & xp.uint32(0x00FF00FF)) + ((random_words >> xp.uint32(8)) & xp.uint32(0x00FF00FF))
    return ((pairs & xp.uint32(0xFFFF)) + (pairs >> xp.uint32(16))).astype(xp.int32) - xp.int32(510)


def scale(fan_in: int) -> float:
    """The power of two that brings such sums nearest to a deviation of 1/sqrt(fan_in)."""
    return float(2.0 ** round(math.log2(1 / (BYTES_SUM_DEVIATION * math.sqrt(fan_in)))))


def _matrix(profile: Profile, seed: bytes, name: str, shape: tuple[int, int], xp: ModuleType) -> Array:
    key = derive_key("weights", FAMILY, profile.name, seed, name)
    out = xp.empty(shape[0] * shape[1], dtype=xp.float32)
    for start in range(0, out.size, _SLICE_WORDS):  # the words' own arrays take many times the matrix's memory
        count = min(_SLICE_WORDS, out.size - start)
        out[start : start + count] = centred_bytes(words(key, start, count, xp=xp), xp)
    return out.reshape(shape) * xp.float32(scale(shape[1]))
