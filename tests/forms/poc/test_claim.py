"""Claims: trees that show what they hold and nothing else, and checks at sight."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest

from forms.poc.claim import Claim, Opening, Work
from forms.poc.computer import Results
from forms.poc.generation import Assignment
from forms.poc.merkle import commit, open_leaf, shows
from forms.poc.nonces import Residue
from forms.poc.profile import TINY
from forms.poc.verification import fault_at_sight, fault_of_openings

ASSIGNMENT = Assignment(TINY, b"seed", 1, 0.2, Residue(1, 3, 1))


def results(nonces: object, distance: float = 1.2) -> Results:
    numbers = numpy.asarray(nonces, numpy.uint64)
    return Results(
        numbers,
        numpy.full(len(numbers), distance, numpy.float32),
        numpy.arange(16 * len(numbers)).reshape(-1, 16).astype(numpy.float16),
    )


def every_fifth(count: int = 100) -> Results:
    return results(ASSIGNMENT.residue.nonces(0, 0, 5 * count)[::5])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_a_leaf_is_shown_at_its_place_only(count: int) -> None:
    leaves = [bytes([number]) for number in range(count)]
    root = commit(leaves)
    for index, leaf in enumerate(leaves):
        path = open_leaf(leaves, index)
        assert shows(root, count, index, leaf, path)
        assert not shows(root, count, index, b"other", path)
        assert not shows(root, count + 1, index, leaf, path)
        assert not shows(root, count, count, leaf, path)
        assert not shows(root, count, index, leaf, (*path, bytes(32)))
        assert count == 1 or not shows(root, count, (index + 1) % count, leaf, path)


def test_an_inner_node_passes_for_no_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    assert commit(leaves) != commit([commit(leaves[:2]), commit(leaves[2:])])


def test_openings_belong_to_their_claim() -> None:
    work = Work.of(every_fifth())
    opening = work.open([7])[0]
    assert opening.belongs_to(work.claim)
    assert not replace(opening, artefact=bytes(32)).belongs_to(work.claim)
    assert not replace(opening, artefact=opening.artefact[:-1]).belongs_to(work.claim)
    assert not Opening(100, opening.artefact, opening.path).belongs_to(work.claim)


def test_only_what_was_asked_for_counts_as_opened() -> None:
    work = Work.of(every_fifth())
    assert "other samples" in fault_of_openings(work.claim, b"secret", work.open(range(64)))
    assert "other samples" in fault_of_openings(work.claim, b"secret", ())


def test_a_claim_has_a_distance_for_each_nonce() -> None:
    with pytest.raises(ValueError, match="a distance for each nonce"):
        Claim(bytes(16), bytes(4), bytes(32))


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (every_fifth(), ""),
        (every_fifth(8), "8 nonces were found"),
        (results([1] * 20), "claimed twice"),
        (results(range(20)), "another node"),
        (results(every_fifth().nonces, distance=1.5), "is not below"),
        (results(every_fifth().nonces, distance=float("nan")), "is not below"),
        (results(ASSIGNMENT.residue.nonces(0, 0, 60)), "60 of 60 tested"),
    ],
    ids=["honest", "few", "twice", "foreign", "far", "nan", "dense"],
)
def test_what_is_seen_at_sight(said: Results, fault: str) -> None:
    found = fault_at_sight(ASSIGNMENT, Work.of(said).claim)
    assert (fault in found) if fault else not found
