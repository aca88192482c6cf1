"""2: weights, inputs, permutations and targets are frozen, and hang on every bit of their seed."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import numpy
import pytest

from forms.poc.inputs import make_inputs, make_permutations, make_target
from forms.poc.profile import SMALL, TINY
from forms.poc.seeds import derive, derive_key
from forms.poc.weights import Layer, make_weights

SEED = bytes(range(32))
FROZEN = {
    "weights": "9067eaeeddf6be6648b02f7c402f22cb49f99be0674f385a03d291c8ecf1766c",
    "inputs": "fc99d1addb36d0c716881a047eb2a14d83e842df177545fdbbeaef6eebcadca2",
    "permutations": "123cec5c11e58764564a0056e6407d70ca9b30f615c4ddcf8cd53e8c264ba8ec",
    "target": "c13534266880ef6a38e9da0a7ac99018bf1443e6a4368998eeea20c5891afde3",
}


def digest(values: Any, kind: str) -> str:
    return hashlib.sha256(numpy.ascontiguousarray(values).astype(kind).tobytes()).hexdigest()


def material(seed: bytes) -> dict[str, str]:
    nonces, key = numpy.array([0, 1, 1 << 40], numpy.uint64), derive_key("input", seed)
    weights = make_weights(TINY, seed)
    flat = [getattr(layer, part.name).ravel() for layer in weights.layers for part in fields(Layer)]
    return {
        "weights": digest(numpy.concatenate([*flat, weights.output.ravel()]), "<f2"),
        "inputs": digest(make_inputs(TINY, key, nonces), "<f2"),
        "permutations": digest(make_permutations(TINY, key, nonces), "<u4"),
        "target": digest(make_target(TINY, seed), "<f4"),
    }


def test_what_everybody_computes_with_is_frozen() -> None:
    assert material(SEED) == FROZEN


def test_one_bit_of_the_seed_changes_all() -> None:
    other = material(bytes([SEED[0] ^ 1]) + SEED[1:])
    assert not {name for name in FROZEN if other[name] == FROZEN[name]}


def test_half_precision_holds_weights_and_inputs_exactly() -> None:
    weights = make_weights(TINY, SEED).layers[0].down
    inputs = make_inputs(TINY, 1, numpy.arange(4, dtype=numpy.uint64))
    for values in (weights, inputs):
        assert numpy.array_equal(values.astype(numpy.float16).astype(numpy.float32), values)
        assert values.std() > 0


def test_presets_have_the_designs_sizes() -> None:
    assert (TINY.parameters, SMALL.parameters) == (278_528, 8_650_752)
    assert TINY.digest != SMALL.digest


@pytest.mark.parametrize("parts", [("a", "bc"), ("ab", "c"), ("abc",), ("abc", "")])
def test_fields_cannot_slide_into_each_other(parts: tuple[str, ...]) -> None:
    others = [("a", "bc"), ("ab", "c"), ("abc",), ("abc", "")]
    assert [derive("x", *parts) == derive("x", *other) for other in others].count(True) == 1
