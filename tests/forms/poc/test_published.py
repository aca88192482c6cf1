"""The published recipe is rebuilt right: its answers on record come out. And the audit, run whole."""

from __future__ import annotations

import numpy
import pytest

from forms.poc.audit import HONEST, audit
from forms.poc.cheats import CHEATS
from forms.poc.published.network import PublishedComputer
from forms.poc.published.recipe import (
    KNOWN,
    V1,
    V2,
    drawn_weights,
    make_input,
    make_permutation,
    pooled_weights,
    seed_words,
)
from forms.poc.published.validation import ProofBatch, validate

BLOCK = KEY = "0x00"


@pytest.fixture(scope="module")
def computer() -> PublishedComputer:
    return PublishedComputer.prepare(KNOWN, BLOCK)


def test_sizes_are_those_on_record() -> None:
    assert (KNOWN.parameters, V1.parameters, V2.parameters) == (1_868_928, 2_969_641_984, 17_763_122_944)
    assert (V1.inner, V2.inner) == (28_672, 49_152)


def test_material_is_that_on_record(computer: PublishedComputer) -> None:
    assert seed_words(BLOCK, 4)[:3].tolist() == [0x1E5862A8, 0xC62B7D9C, 0xACBFF194]
    assert computer.weights["layers.0.attention.wq.weight"][0, :2] == pytest.approx([0.01663, -0.02354], abs=1e-5)
    assert make_permutation(KNOWN, BLOCK, KEY, 0)[:8].tolist() == [88, 115, 102, 28, 31, 70, 49, 15]
    assert make_input(KNOWN, BLOCK, KEY, 0)[0, :4] == pytest.approx([-0.71, 1.186, -0.7583, -0.3657], abs=1e-3)


def test_distances_are_those_on_record(computer: PublishedComputer) -> None:
    expected = [1.336117, 1.336779, 1.516211, 1.342577]
    assert computer.distances(KEY, range(4)) == pytest.approx(expected, abs=1e-5)


def test_the_methods_of_drawing_differ() -> None:
    name = "layers.0.attention.wq.weight"
    assert not numpy.array_equal(drawn_weights(KNOWN, BLOCK)[name], pooled_weights(KNOWN, BLOCK)[name])


def test_a_received_distance_outside_ends_the_validation(computer: PublishedComputer) -> None:
    batch = ProofBatch(KEY, BLOCK, (0,), (1.41,))
    with pytest.raises(ValueError, match="not below"):
        validate(computer, KEY, batch, [0], 1.4)


def test_the_audit_catches_every_cheat_with_m1_and_few_with_the_published_recipe() -> None:
    found = {(finding.recipe, finding.cheat): finding for finding in audit(b"a fixed audit")}
    assert found.keys() == {(recipe, cheat) for recipe in ("m1", "published") for cheat in (HONEST, *CHEATS)}
    assert {cheat for recipe, cheat in found if recipe == "m1" and not found[recipe, cheat].is_caught} == {HONEST}
    fooling = {cheat for recipe, cheat in found if recipe == "published" and not found[recipe, cheat].is_caught}
    fools = {"skip-all-layers", "skip-one-layer", "int8", "duplicate", "foreign-residue", "faked-unsampled"}
    assert fooling >= {HONEST, *fools}
    assert not fooling & {"random", "replay", "other-key"}
