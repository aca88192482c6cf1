"""Its network in half precision, as far as a processor carries that out: sums in single, results rounded. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy

from forms.poc.arithmetic import half_rounded, quantised
from forms.poc.philox import Array
from forms.poc.published.recipe import Recipe, make_input, make_permutation, make_target, pooled_weights

EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class PublishedComputer:
    """One block hash's network. skipped: layers left out, and context: positions computed, by a cheat."""

    recipe: Recipe
    block: str
    weights: dict[str, Array]
    skipped: Collection[int] = ()
    context: int = 0

    @classmethod
    def prepare(cls, recipe: Recipe, block: str) -> PublishedComputer:
        """Make the weights, float32 that half precision holds."""
        drawn = pooled_weights(recipe, block)
        return cls(recipe, block, {name: value.astype(numpy.float32) for name, value in drawn.items()})

    def quantised(self, bits: int) -> PublishedComputer:
        """The same with matrices of few bits."""
        fewer = {name: quantised(value, bits) if value.ndim == 2 else value for name, value in self.weights.items()}
        return PublishedComputer(self.recipe, self.block, fewer, self.skipped, self.context)

    def distances(self, key: str, nonces: Sequence[int]) -> Array:
        """float64, one for each nonce."""
        recipe = self.recipe
        inputs = numpy.stack([make_input(recipe, self.block, key, nonce) for nonce in nonces])
        outputs = self._run(inputs[:, -(self.context or recipe.sequence) :].astype(numpy.float32))
        orders = numpy.stack([make_permutation(recipe, self.block, key, nonce) for nonce in nonces])
        shuffled = numpy.take_along_axis(outputs, orders, axis=1).astype(numpy.float64)
        shuffled /= numpy.linalg.norm(shuffled, axis=1, keepdims=True)
        return numpy.linalg.norm(shuffled - make_target(recipe, self.block), axis=1)

    def _run(self, state: Array) -> Array:
        for layer in range(self.recipe.layers):
            if layer not in self.skipped:
                state = self._block(f"layers.{layer}.", state)
        return _times(_normalised(state[:, -1], self.weights["norm.weight"]), self.weights["output.weight"])

    def _block(self, prefix: str, state: Array) -> Array:
        weights = {name: self.weights[f"{prefix}{name}.weight"] for name in _PARTS}
        state = half_rounded(state + self._attention(weights, _normalised(state, weights["attention_norm"])))
        normalised = _normalised(state, weights["ffn_norm"])
        gate, up = _times(normalised, weights["feed_forward.w1"]), _times(normalised, weights["feed_forward.w3"])
        inner = half_rounded(half_rounded(gate / (1 + numpy.exp(-gate))) * up)
        return half_rounded(state + _times(inner, weights["feed_forward.w2"]))

    def _attention(self, weights: dict[str, Array], state: Array) -> Array:
        query, key = (self._rotated(self._heads(_times(state, weights[f"attention.{name}"]))) for name in ("wq", "wk"))
        value = self._heads(_times(state, weights["attention.wv"]))
        head_width = self.recipe.width // self.recipe.heads
        scores = half_rounded(half_rounded(query @ key.transpose(0, 1, 3, 2)) / math.sqrt(head_width))
        sequence = state.shape[1]
        scores = scores + numpy.triu(numpy.full((sequence, sequence), -numpy.inf), 1)
        shares = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = half_rounded(half_rounded(shares / shares.sum(axis=-1, keepdims=True)) @ value)
        return _times(mixed.transpose(0, 2, 1, 3).reshape(state.shape), weights["attention.wo"])

    def _heads(self, values: Array) -> Array:
        return values.reshape(*values.shape[:2], self.recipe.heads, -1).transpose(0, 2, 1, 3)

    def _rotated(self, values: Array) -> Array:
        head_width = values.shape[-1]
        frequencies = self.recipe.theta ** (-numpy.arange(0, head_width, 2) / head_width)
        angles = numpy.arange(values.shape[2])[:, None] * frequencies
        cosine, sine = (
            part.astype(numpy.float16).astype(numpy.float32) for part in (numpy.cos(angles), numpy.sin(angles))
        )
        even, odd = values[..., 0::2], values[..., 1::2]
        turned = numpy.stack((even * cosine - odd * sine, even * sine + odd * cosine), axis=-1)
        return half_rounded(turned.reshape(values.shape))


_PARTS = (
    *("attention.wq", "attention.wk", "attention.wv", "attention.wo", "attention_norm", "ffn_norm"),
    *("feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
)


def _times(values: Array, matrix: Array) -> Array:
    return half_rounded(values @ matrix.T)


def _normalised(state: Array, gain: Array) -> Array:
    mean = (state * state).mean(axis=-1, keepdims=True)
    return half_rounded(half_rounded(state / numpy.sqrt(mean + EPSILON)) * gain)
