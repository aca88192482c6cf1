"""Which node a person means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.view import Status, View
from meshd.naming import UnknownNode, distinct_names, find_node, find_node_id
from tests.meshd.test_status import HOST, LAPTOP, ME, node
from transport.identity import node_text, short
from transport.interface import Link, LinkState, NodeId, Role

VIEW = View(1, (node(ME, "me"), node(HOST, "host"), node(LAPTOP, "laptop")))


@pytest.mark.parametrize("text", ["host", " host ", short(HOST), node_text(HOST), node_text(HOST).upper()])
def test_a_name_or_an_id_will_do(text: str) -> None:
    assert find_node(text, VIEW).node == HOST
    assert find_node_id(text, VIEW) == HOST


@pytest.mark.parametrize("text", ["", "nobody", short(HOST)[:7], "Host"])
def test_what_names_nobody_is_explained(text: str) -> None:
    with pytest.raises(UnknownNode, match="meshd status"):
        find_node(text, VIEW)


def test_two_of_one_name_are_told_apart_by_their_ids() -> None:
    twins = View(1, (node(ME, "box"), node(HOST, "box")))
    with pytest.raises(UnknownNode, match=short(HOST)):
        find_node("box", twins)
    assert find_node(short(HOST), twins).node == HOST


def test_namesakes_are_called_apart_and_the_living_one_by_its_name_alone() -> None:
    dead, living = replace(node(HOST, "box"), status=Status.DEAD), node(LAPTOP, "box")
    away = NodeId(b"x" * 32)
    link = Link(away, Role.MEMBER, "me", LinkState.LOST, None, "quic", None, 0, 0)
    assert distinct_names(View(1, (node(ME, "me"), dead, living)), [link]) == {
        ME: "me",
        LAPTOP: "box",
        HOST: f"box ({short(HOST)})",
        away: f"me ({short(away)})",
    }


def test_a_full_id_names_a_node_that_is_not_here() -> None:
    absent = NodeId(b"absent".ljust(32))
    assert find_node_id(node_text(absent), VIEW) == absent
    with pytest.raises(UnknownNode):
        find_node_id(short(absent), VIEW)
