"""The network of profile `x1`: plain layers of small odd integers, whose sums no order of adding changes. Pure.

Weights are ±1 … ±15 (four bits), activations ±1 … ±31 (five): a sum over 1,024 of them stays below 2**24, so that
single precision holds each partial one exactly, in whatever order and on whatever unit it is added (poc.md §4.1).
Between layers a sum is cut to five of its middle bits, which wraps: every layer changes everything.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy

from forms.poc.inputs import per_nonce
from forms.poc.philox import Array, words
from forms.poc.profile import ARTEFACT_COORDINATES, Profile
from forms.poc.seeds import derive_key
from forms.poc.weights import centred_bytes

WEIGHT_BITS, ACTIVATION_BITS = 4, 5
NIBBLES = 8
"""Of a word."""
MOST_EXACT = 1 << 24
ARTEFACT_RANGE = 2048
"""Half precision holds these integers, centred."""


def make_matrices(profile: Profile, seed: bytes, xp: ModuleType = numpy) -> tuple[Array, ...]:
    """Each layer's (width, width) and the output's (outputs, width), float32. ValueError for a width that rounds."""
    largest = profile.width * (2**WEIGHT_BITS - 1) * (2**ACTIVATION_BITS - 1)
    if largest >= MOST_EXACT:
        raise ValueError(f"sums up to {largest} would be rounded: {MOST_EXACT} is the bound")
    rows = [profile.width] * profile.layers + [profile.outputs]
    return tuple(_matrix(profile, seed, number, count, xp) for number, count in enumerate(rows))


def make_exact_target(profile: Profile, seed: bytes) -> Array:
    """What outputs are held against: (outputs,) float64, integers."""
    key = derive_key("target", profile.family, profile.name, seed)
    return centred_bytes(words(key, 0, profile.outputs)).astype(numpy.float64)


def run_exact(profile: Profile, matrices: tuple[Array, ...], key: int, nonces: Array, xp: ModuleType = numpy) -> Array:
    """(nonces, outputs) integers as float32."""
    *layers, output = matrices
    values = _odd(per_nonce(key, nonces, profile.width, xp), ACTIVATION_BITS, xp)
    for matrix in layers:
        values = _cut(profile, values @ matrix.T, xp)
    return values @ output.T


def exact_distances(outputs: Array, target: Array) -> Array:
    """Between the directions of `outputs` and `target`, both float64 integers on the host: exact up to the last steps.

    Each of those is one operation on two numbers, which IEEE 754 rounds alike everywhere.
    """
    lengths = numpy.sqrt((outputs * outputs).sum(axis=1)) * numpy.sqrt((target * target).sum())
    return numpy.sqrt(numpy.maximum(0.0, 2.0 - 2.0 * ((outputs * target).sum(axis=1) / lengths)))


def exact_artefacts(outputs: Array) -> Array:
    """16 outputs by their low bits, as integers that half precision holds."""
    first = outputs[:, :ARTEFACT_COORDINATES]
    return first - ARTEFACT_RANGE * numpy.floor(first / ARTEFACT_RANGE) - ARTEFACT_RANGE / 2


def _cut(profile: Profile, sums: Array, xp: ModuleType) -> Array:
    step = 2.0 ** math.floor(math.log2(8 * math.sqrt(profile.width)))
    levels = 2**ACTIVATION_BITS
    middle = xp.floor(sums / xp.float32(step))
    return 2 * (middle - levels * xp.floor(middle / levels)) - (levels - 1)


def _odd(random_words: Array, bits: int, xp: ModuleType) -> Array:
    """Odd integers, as many below zero as above, out of each word's lowest bits."""
    return 2 * (random_words & xp.uint32(2**bits - 1)).astype(xp.float32) - (2**bits - 1)


def _matrix(profile: Profile, seed: bytes, number: int, rows: int, xp: ModuleType) -> Array:
    key = derive_key("weights", profile.family, profile.name, seed, number)
    packed = words(key, 0, -(-rows * profile.width // NIBBLES), xp=xp)
    shifts = xp.arange(NIBBLES, dtype=xp.uint32) * xp.uint32(WEIGHT_BITS)
    each = _odd(packed[:, None] >> shifts, WEIGHT_BITS, xp).reshape(-1)
    return each[: rows * profile.width].reshape(rows, profile.width)
