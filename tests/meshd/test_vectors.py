"""Bytes that were written down once are read as they were meant, and written alike."""

from __future__ import annotations

import pytest

from meshd.mesh_facts import MAX_DELEGATES, encode_delegates, read_delegates
from tests.golden import Vector, check, vectors
from tests.meshd import examples
from transport.interface import NodeId

VECTORS = vectors("meshd")
PEER = NodeId(b"\x05" * 32)


def name_of(vector: Vector) -> str:
    return vector.path.stem


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_a_vector_is_read_as_it_was_meant_and_written_alike(vector: Vector) -> None:
    check(vector)


def test_every_example_has_its_vector() -> None:
    assert {name_of(vector) for vector in VECTORS} >= examples.examples().keys(), "run python -m tools.vectors"


def test_as_many_delegates_as_a_mesh_may_have_are_read() -> None:
    delegates = frozenset(NodeId(number.to_bytes(32, "big")) for number in range(MAX_DELEGATES))
    assert read_delegates(encode_delegates(delegates), PEER) == delegates
