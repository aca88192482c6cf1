"""6: nobody tries another's nonce and none is left out; devices group as their memory says; phases follow."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forms.poc.groups import CPU, Device, group_devices
from forms.poc.nonces import Residue
from forms.poc.phases import Phase, enter


@given(st.integers(1, 7), st.lists(st.integers(1, 4), min_size=7, max_size=7), st.integers(1, 6))
def test_shares_are_disjoint_and_together_everything(nodes: int, groups: list[int], turns: int) -> None:
    every = []
    for node in range(nodes):
        share = Residue(node, nodes, groups[node])
        mine = numpy.concatenate([share.nonces(group, 0, turns) for group in range(share.groups)])
        assert share.owns(mine)
        assert share.tested(mine) == len(mine)
        # Of `groups × turns` numbers below, each is tried once, whatever the number of groups.
        assert sorted(mine // numpy.uint64(nodes)) == list(range(share.groups * turns))
        every.append(mine)
    together = numpy.concatenate(every)
    assert len(numpy.unique(together)) == len(together)
    assert all(not Residue(node, nodes, 1).owns(every[node - 1]) for node in range(nodes) if nodes > 1)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="node 3 of 3"):
        Residue(3, 3, 1)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([24.0, 24.0], [[0], [1]]),
        ([23.0], [[0]]),
        ([22.99], []),
        ([11.5, 11.5], [[0, 1]]),
        ([8.0, 8.0, 8.0], []),
        ([8.0, 8.0, 8.0, 8.0], [[0, 1, 2, 3]]),
        ([4.0, 24.0, 12.0, 12.0], [[0, 1], [2, 3]]),
        ([1.0, 2.0, 80.0], [[1, 2]]),
        ([1.0, 2.0, 80.0, 1.0], [[0, 1, 2, 3]]),
        ([3.0] * 9, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ([3.0] * 7, []),
        ([], []),
    ],
)
def test_neighbours_with_memory_enough_prove_together(sizes: list[float], groups: list[list[int]]) -> None:
    devices = [Device(number, size) for number, size in enumerate(sizes)]
    found = group_devices(reversed(devices))
    assert found == ([tuple(devices[number] for number in group) for group in groups] or [(CPU,)])


def test_phases_follow_until_a_stop() -> None:
    assert enter(enter(Phase.IDLE, Phase.GENERATE), Phase.VALIDATE) is Phase.VALIDATE
    assert enter(Phase.STOP, Phase.STOP) is Phase.STOP
    with pytest.raises(ValueError, match="cannot follow stop"):
        enter(Phase.STOP, Phase.GENERATE)
