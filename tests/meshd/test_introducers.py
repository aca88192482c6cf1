"""Where a token sends a joiner."""

from __future__ import annotations

from dataclasses import replace

from gossip.view import NodeView, Status, View
from meshd.introducers import introducers
from tests.meshd.test_status import ME, node
from transport.interface import Address, NodeId, Role
from transport.invite import MAX_ADDRESSES


def at(*numbers: int) -> list[Address]:
    return [Address(f"10.0.0.{number}", 7842) for number in numbers]


def member(number: int, known_for_s: float = 60.0) -> NodeView:
    entry = node(NodeId(bytes([number]) * 32), f"n{number}")
    return replace(entry, addresses=tuple(at(number, 100 + number)), known_for_s=known_for_s)


def view(*others: NodeView) -> View:
    return View(1, (node(ME, "me"), *others))


def test_alone_it_names_itself() -> None:
    assert introducers(at(1, 2), view()) == tuple(at(1, 2))
    assert introducers(at(*range(1, 9)), view()) == tuple(at(1, 2, 3, 4, 5, 6))


def test_others_find_room_after_its_own_first_three() -> None:
    named = introducers(at(1, 2, 3, 4), view(member(11), member(12)))
    assert named == tuple(at(1, 2, 3, 11, 12, 4))


def test_the_most_settled_come_first_and_no_more_than_fit() -> None:
    others = [member(number, known_for_s=float(number)) for number in range(11, 20)]
    named = introducers(at(1), view(*others))
    assert named == tuple(at(1, 19, 18, 17, 16, 15))
    assert len(named) == MAX_ADDRESSES


def test_who_could_not_pass_a_joiner_on_is_left_out() -> None:
    gone, away, client, nowhere = member(11), member(12), member(13), member(14)
    named = introducers(
        at(1),
        view(
            replace(gone, status=Status.DEAD),
            replace(away, linked=False),
            replace(client, role=Role.CLIENT),
            replace(nowhere, addresses=()),
        ),
    )
    assert named == tuple(at(1))


def test_an_address_is_named_once() -> None:
    assert introducers(at(1, 1, 2), view()) == tuple(at(1, 2))
