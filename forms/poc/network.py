"""The network's run: a pre-norm transformer whose every layer moves the result. Pure.

All gains are 1 and each block adds about as much as there was: the published recipe draws gains near 0, so that all of
its layers may be left out unnoticed (`forms.poc.published`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy

from forms.poc.arithmetic import FP32, Arithmetic
from forms.poc.philox import Array
from forms.poc.profile import EPSILON, THETA, Profile
from forms.poc.weights import Layer, Weights


def run_network(
    profile: Profile, weights: Weights, inputs: Array, arithmetic: Arithmetic = FP32, xp: ModuleType = numpy
) -> Array:
    """The outputs at the last position, (nonces, outputs). inputs: (nonces, sequence, width)."""
    rotation = tuple(
        xp.asarray(part, dtype=arithmetic.dtype) for part in rotations(inputs.shape[1], profile.head_width)
    )
    network = _Network(profile, arithmetic, rotation, xp)
    state = inputs.astype(arithmetic.dtype)
    for number, layer in enumerate(weights.layers):
        # Of the last layer only the last position is asked for; its keys and values are of all.
        positions = 1 if number == len(weights.layers) - 1 else state.shape[1]
        state = network.block(layer, state, positions)
    return arithmetic.times(network.normalised(state[:, -1]), weights.output)


@lru_cache(maxsize=8)
def rotations(sequence: int, head_width: int) -> tuple[Array, ...]:
    """Cosines and sines of the positions, (sequence, head_width / 2), rounded to half precision."""
    frequencies = THETA ** (-numpy.arange(0, head_width, 2) / head_width)
    angles = numpy.arange(sequence)[:, None] * frequencies
    return tuple(part.astype(numpy.float16) for part in (numpy.cos(angles), numpy.sin(angles)))


@dataclass(frozen=True, slots=True)
class _Network:
    profile: Profile
    arithmetic: Arithmetic
    rotation: tuple[Array, ...]
    xp: ModuleType

    def block(self, layer: Layer, state: Array, positions: int) -> Array:
        """One layer's last positions."""
        times, settle = self.arithmetic.times, self.arithmetic.settle
        mixed = self._attention(layer, self.normalised(state), positions)
        state = settle(state[:, -positions:] + times(mixed, layer.mixed))
        normalised = self.normalised(state)
        gate, up = times(normalised, layer.gate), times(normalised, layer.up)
        inner = settle(gate / (1 + self.xp.exp(-gate)) * up)
        return settle(state + times(inner, layer.down))

    def normalised(self, state: Array) -> Array:
        mean = (state * state).mean(axis=-1, keepdims=True)
        return self.arithmetic.settle(state / self.xp.sqrt(mean + state.dtype.type(EPSILON)))

    def _attention(self, layer: Layer, state: Array, positions: int) -> Array:
        times, settle = self.arithmetic.times, self.arithmetic.settle
        query = settle(self._rotated(self._heads(times(state[:, -positions:], layer.query))))
        key = settle(self._rotated(self._heads(times(state, layer.key))))
        value = self._heads(times(state, layer.value))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(self.profile.head_width)
        mixed = settle(settle(self._softmax(scores)) @ value)
        return mixed.transpose(0, 2, 1, 3).reshape(len(state), positions, self.profile.width)

    def _heads(self, values: Array) -> Array:
        return values.reshape(*values.shape[:2], self.profile.heads, -1).transpose(0, 2, 1, 3)

    def _rotated(self, values: Array) -> Array:
        """Turn pairs of neighbours by their position's angle: the last positions, where there are fewer."""
        cosine, sine = (part[-values.shape[2] :] for part in self.rotation)
        even, odd = values[..., 0::2], values[..., 1::2]
        turned = self.xp.stack((even * cosine - odd * sine, even * sine + odd * cosine), axis=-1)
        return turned.reshape(values.shape)

    def _softmax(self, scores: Array) -> Array:
        """Over what is not later than each position."""
        xp, (positions, sequence) = self.xp, scores.shape[-2:]
        is_later = xp.arange(sequence)[None, :] > xp.arange(sequence - positions, sequence)[:, None]
        weights = xp.where(is_later, 0, xp.exp(scores - scores.max(axis=-1, keepdims=True)))
        return weights / weights.sum(axis=-1, keepdims=True)
