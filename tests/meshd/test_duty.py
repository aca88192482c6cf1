"""What each node does, by what it offers, holds and claims; and the sentence that says why a host leads."""

from __future__ import annotations

import msgspec
import pytest

from gossip.lease import Claim
from gossip.view import Status
from llm.offer import OfferedPart, catalogue
from meshd.duty import GIB, Duty, duties, reason
from tests.llm.views import node, node_id, offer, view
from transport.interface import Role


def test_roles_are_what_nodes_do_and_not_what_they_were_started_as() -> None:
    split = msgspec.structs.replace(
        offer(), mode="split", parts=(OfferedPart(node_id(1), 0.6), OfferedPart(node_id(2), 0.4))
    )
    mesh = view(node(1, [split]), node(2), node(3), node(4, role=Role.CLIENT), node(5, [offer("other")]))
    found = duties(mesh, catalogue(mesh, (split,)), {})
    assert [found[node_id(number)] for number in range(1, 6)] == [
        Duty.HOST,
        Duty.WORKER,
        Duty.IDLE,
        Duty.CLIENT,
        Duty.HOST,
    ]


def test_a_node_whose_engine_is_still_loading_is_idle_unless_it_leads() -> None:
    mesh = view(node(1), node(2, [offer(state="loading")]))
    models = catalogue(mesh, ())
    assert duties(mesh, models, {})[node_id(2)] is Duty.IDLE
    claim = Claim("host/tiny", 1, GIB, node_id(2))
    assert duties(mesh, models, {"host/tiny": claim})[node_id(2)] is Duty.HOST


def test_the_dead_do_nothing() -> None:
    mesh = view(node(1), node(2, [offer()], status=Status.DEAD))
    claim = Claim("host/tiny", 1, GIB, node_id(2))
    assert duties(mesh, catalogue(mesh, ()), {"host/tiny": claim})[node_id(2)] is Duty.IDLE


@pytest.mark.parametrize(
    ("rival_gib", "why"),
    [
        (None, "no other node offers it"),
        (8, "more than b, the next, with 8.0 GB"),
        (24, "as much as b, and the first of equals stays"),
        (26, "b has 26.0 GB, too little more to unseat it"),
        (48, "b has 48.0 GB and takes over when it has been well for 60 s"),
    ],
)
def test_why_a_host_leads(rival_gib: int | None, why: str) -> None:
    rivals = [] if rival_gib is None else [("b", rival_gib * GIB)]
    claim = Claim("host/toy", 3, 24 * GIB, node_id(1))
    assert reason(claim, rivals, "a") == f"a leads toy in term 3 with 24.0 GB: {why}"
