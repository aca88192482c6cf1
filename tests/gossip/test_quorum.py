"""Whether most members agree."""

from __future__ import annotations

import pytest

from gossip.quorum import Quorum, quorum, voters
from gossip.view import NodeView, Status, View
from transport.interface import NodeId, Role


def node(number: int, status: Status = Status.ALIVE, role: Role = Role.MEMBER) -> NodeView:
    return NodeView(NodeId(bytes([number]) * 32), "", role, status, 1, 0, (), {}, None, True, 60.0)


def ids(*numbers: int) -> set[NodeId]:
    return {NodeId(bytes([number]) * 32) for number in numbers}


@pytest.mark.parametrize(
    ("members", "granted", "is_reached"),
    [(1, 1, False), (2, 2, False), (3, 1, False), (3, 2, True), (4, 2, False), (4, 3, True), (5, 3, True)],
)
def test_more_than_half_of_at_least_three(members: int, granted: int, is_reached: bool) -> None:
    assert Quorum(members, granted).is_reached is is_reached


def test_the_dead_count_and_those_that_left_and_clients_do_not() -> None:
    view = View(
        1,
        (
            node(1),
            node(2),
            node(3, Status.DEAD),
            node(4, Status.SUSPECT),
            node(5, Status.LEFT),
            node(6, role=Role.CLIENT),
        ),
    )
    assert set(voters(view)) == ids(2, 3, 4)
    assert quorum(view, ids(2), has_own_vote=True) == Quorum(members=4, granted=2)


def test_a_vote_of_somebody_who_does_not_count_any_more_does_not_count() -> None:
    view = View(1, (node(1), node(2), node(3), node(4, Status.LEFT)))
    assert quorum(view, ids(4, 9), has_own_vote=True) == Quorum(members=3, granted=1)


def test_a_host_whose_own_vote_another_may_be_using_does_not_count_it() -> None:
    view = View(1, (node(1), node(2), node(3)))
    assert not quorum(view, ids(2), has_own_vote=False).is_reached
    assert quorum(view, ids(2, 3), has_own_vote=False).is_reached


def test_two_parts_of_a_mesh_are_never_both_a_majority() -> None:
    for members in range(3, 30):
        for granted in range(members + 1):
            assert not (Quorum(members, granted).is_reached and Quorum(members, members - granted).is_reached)
