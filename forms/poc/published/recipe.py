"""Its seeds, sizes, weights and inputs. Pure.

Initialisation draws the gains like every other weight, so that no layer matters, and every tensor out of one small
pool, so that none has to be held. Both are kept here on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from forms.poc.philox import Array

DEVIATION = 0.02
LEAST_POOL = 50_000
POOL_SHARE = 0.05
LONG_SEED = 4
"""Digests that seed weights and inputs; the rest is seeded by one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """factor, multiple_of: what the inner width is made from."""

    width: int
    layers: int
    heads: int
    outputs: int
    factor: float
    multiple_of: int
    sequence: int
    theta: float = 10_000.0

    @property
    def inner(self) -> int:
        wanted = int(self.factor * int(2 * 4 * self.width / 3))
        return -(-wanted // self.multiple_of) * self.multiple_of

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Its parameters by name, in the order that they are drawn; the embeddings are drawn and never used."""
        width, inner = self.width, self.inner
        yield "tok_embeddings.weight", (self.outputs, width)
        for layer in range(self.layers):
            for name in ("wq", "wk", "wv", "wo"):
                yield f"layers.{layer}.attention.{name}.weight", (width, width)
            for name, shape in {"w1": (inner, width), "w2": (width, inner), "w3": (inner, width)}.items():
                yield f"layers.{layer}.feed_forward.{name}.weight", shape
            for name in ("attention_norm", "ffn_norm"):
                yield f"layers.{layer}.{name}.weight", (width,)
        yield "norm.weight", (width,)
        yield "output.weight", (self.outputs, width)

    @property
    def parameters(self) -> int:
        return sum(int(numpy.prod(shape)) for _, shape in self.shapes())


KNOWN = Recipe(width=128, layers=4, heads=4, outputs=128, factor=1.3, multiple_of=1024, sequence=16, theta=5e5)
"""The sizes whose answers are on record."""
V1 = Recipe(width=1024, layers=32, heads=32, outputs=8196, factor=10, multiple_of=2048, sequence=128)
V2 = Recipe(width=1792, layers=64, heads=64, outputs=8196, factor=10, multiple_of=8192, sequence=256)


def seed_words(text: str, count: int) -> Array:
    """`count` SHA-256 digests of the text and a number, as little-endian uint32."""
    digests = b"".join(hashlib.sha256(f"{text}_{number}".encode()).digest() for number in range(count))
    return numpy.frombuffer(digests, "<u4")


def generator(text: str, count: int = 1) -> numpy.random.Generator:
    """NumPy's PCG64 under that seed, whose stream NumPy promises for one build only."""
    return numpy.random.default_rng(numpy.random.SeedSequence(seed_words(text, count).tolist()))


def pooled_weights(recipe: Recipe, block: str) -> dict[str, Array]:
    """Every parameter as a slice of one small pool, float16."""
    size = max(LEAST_POOL, int(POOL_SHARE * recipe.parameters))
    pool = generator(block, LONG_SEED).normal(0, DEVIATION, size).astype(numpy.float32).astype(numpy.float16)
    return {name: _from_pool(pool, block, name, shape) for name, shape in recipe.shapes()}


def drawn_weights(recipe: Recipe, block: str) -> dict[str, Array]:
    """Every parameter drawn in turn: the method of the seed's time, float16."""
    stream = generator(block, LONG_SEED)
    return {name: stream.normal(0, DEVIATION, shape).astype(numpy.float16) for name, shape in recipe.shapes()}


def _from_pool(pool: Array, block: str, name: str, shape: tuple[int, ...]) -> Array:
    size = int(numpy.prod(shape))
    number = int.from_bytes(hashlib.sha256(f"{block}_{name}".encode()).digest()[:4], "big")
    if size <= len(pool):
        start = number % (len(pool) - size + 1)
        return pool[start : start + size].reshape(shape)
    return pool[(numpy.arange(size) + number % size) % size % len(pool)].reshape(shape)


def make_input(recipe: Recipe, block: str, key: str, nonce: int) -> Array:
    """(sequence, width) float16, rounded twice as PyTorch does."""
    values = generator(f"{block}_{key}_nonce{nonce}", LONG_SEED).standard_normal((recipe.sequence, recipe.width))
    return values.astype(numpy.float32).astype(numpy.float16)


def make_permutation(recipe: Recipe, block: str, key: str, nonce: int) -> Array:
    """An order of the outputs."""
    return generator(f"{block}_{key}_nonce_{nonce}_permutations").permutation(recipe.outputs)


def make_target(recipe: Recipe, block: str) -> Array:
    """(outputs,) of length 1."""
    values = generator(f"{block}_target").standard_normal(recipe.outputs)
    return values / numpy.linalg.norm(values)
