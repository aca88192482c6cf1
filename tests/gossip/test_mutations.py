"""Every guard that docs/decisions/0013-simulator.md lists is missed by a seed when it is gone."""

from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path

import pytest

from tests.gossip.mutations import MUTATIONS, Mutation, caught_by

DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0013-simulator.md"
MORE_SEEDS = range(250)
"""Where the seed that caught it no longer does, since the dice fall otherwise now, another one should."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.remove.__name__.strip("_"))
def test_a_seed_fails_without_the_guard(mutation: Mutation) -> None:
    logging.getLogger("meshd").setLevel(logging.ERROR)
    caught = caught_by(mutation, chain((mutation.seed,), MORE_SEEDS))
    assert caught is not None, f"no seed notices that this guard is gone: {mutation.guard} ({mutation.where})"
    print(f"seed {caught[0]}: {caught[1]}")


def test_the_list_is_in_the_docs() -> None:
    text = DECISION.read_text()
    assert [mutation.guard for mutation in MUTATIONS if f"| {mutation.guard} |" not in text] == []
