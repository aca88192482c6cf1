from __future__ import annotations

from dataclasses import replace

from gossip.view import NodeView, Status, View
from llm.draft.fact import DRAFT_FACT, DraftOffer, drafters_of, encode_drafters, find_drafters, is_worth_telling
from tests.llm.views import node_id
from transport.interface import Role

OURS, OTHERS = "f1" * 32, "f2" * 32


def node(number: int, rtt_ms: float, *offers: DraftOffer) -> NodeView:
    facts = {DRAFT_FACT: encode_drafters(offers)} if offers else {}
    return NodeView(node_id(number), f"n{number}", Role.MEMBER, Status.ALIVE, 1, 0, (), facts, rtt_ms, True, 60.0)


def found(*nodes: NodeView) -> list[str]:
    return [one.node.name for one in find_drafters(View(1, nodes), OURS)]


def test_the_one_that_answers_soonest_is_first_and_another_vocabulary_is_none() -> None:
    me = node(1, 0, DraftOffer("own", OURS, 0.001))
    near_and_slow = node(2, 1, DraftOffer("big", OURS, 0.100))
    far_and_quick = node(3, 100, DraftOffer("small", OURS, 0.001))
    other = node(4, 1, DraftOffer("small", OTHERS, 0.001))
    assert found(me, near_and_slow, far_and_quick, other, node(5, 1)) == ["n3", "n2"]


def test_who_is_not_there_is_not_asked() -> None:
    drafter = node(2, 1, DraftOffer("small", OURS, 0.001))
    gone = [replace(drafter, status=Status.SUSPECT), replace(drafter, linked=False), replace(drafter, role=Role.CLIENT)]
    assert [found(node(1, 0), one) for one in gone] == [[], [], []]


def test_who_is_not_believed_is_not_asked() -> None:
    view = View(1, (node(1, 0), *(node(number, 1, DraftOffer("small", OURS, 0.001)) for number in (2, 3))))
    (one,) = find_drafters(view, OURS, lambda node: float(node != node_id(2)))
    assert one.node.name == "n3"


def test_a_fact_that_is_not_legible_is_none() -> None:
    assert drafters_of(replace(node(1, 0), facts={DRAFT_FACT: b"\xc1"})) == ()


def test_only_what_changes_a_choice_is_told_again() -> None:
    told = DraftOffer("small", OURS, 0.010)
    assert is_worth_telling(None, told)
    assert not is_worth_telling(told, DraftOffer("small", OURS, 0.012))
    assert is_worth_telling(told, DraftOffer("small", OURS, 0.013))
