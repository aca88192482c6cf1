"""Bytes that were written down once are read as they were meant, and written alike."""

from __future__ import annotations

import pytest

from tests.forms import examples
from tests.golden import Vector, check, vectors

VECTORS = vectors("forms")


def name_of(vector: Vector) -> str:
    return vector.path.stem


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_a_vector_is_read_as_it_was_meant_and_written_alike(vector: Vector) -> None:
    check(vector)


def test_every_example_has_its_vector() -> None:
    assert {name_of(vector) for vector in VECTORS} >= examples.examples().keys(), "run python -m tools.vectors"
