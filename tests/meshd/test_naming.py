"""Which node a person means."""

from __future__ import annotations

import pytest

from gossip.view import View
from meshd.naming import UnknownNode, find_node, find_node_id
from tests.meshd.test_status import HOST, LAPTOP, ME, node
from transport.identity import node_text, short
from transport.interface import NodeId

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


def test_a_full_id_names_a_node_that_is_not_here() -> None:
    absent = NodeId(b"absent".ljust(32))
    assert find_node_id(node_text(absent), VIEW) == absent
    with pytest.raises(UnknownNode):
        find_node_id(short(absent), VIEW)
