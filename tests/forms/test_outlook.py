"""What is believed of a node's claims decides what it counts as, and whether it is asked at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forms.choice import Shape, predict
from forms.cost import Cost, Line
from forms.forms_fact import FORMS_FACT, encode_fact, fact_of
from forms.outlook import Mine, Outlook
from forms.places import Place
from gossip.view import NodeView, Status, View
from transport.interface import NodeId, Role

ME, OTHER = NodeId(b"\x01" * 32), NodeId(b"\x02" * 32)
SHAPE = Shape("sum", is_text=False, work=100.0, bytes_in=10, bytes_out=10)
COST = Cost("sum", False, "reference", Line(0.1, 0.01), 0.0, 5)


def entry(node: NodeId, *, has_forms: bool) -> NodeView:
    facts = {FORMS_FACT: encode_fact(fact_of([COST], is_warm=True, queue_s=0.0))} if has_forms else {}
    return NodeView(node, "n", Role.MEMBER, Status.ALIVE, 1, 0, (), facts, 0.0, True, 60.0)


VIEW = View(1, (entry(ME, has_forms=False), entry(OTHER, has_forms=True)))


def predicted(believed: float) -> dict[Place, float | None]:
    outlook = Outlook(believe=lambda node: believed)
    return {option.target: predict(SHAPE, option) for option in outlook.options(SHAPE, Mine(None, [], 0.0), VIEW, 0.0)}


def test_who_is_believed_half_is_expected_to_take_twice_as_long() -> None:
    whole, half = predicted(1.0)[Place(node=OTHER)], predicted(0.5)[Place(node=OTHER)]
    assert whole is not None and half is not None
    assert half - whole == pytest.approx(COST.line.at(SHAPE.work))


def test_who_is_not_believed_gets_no_calls() -> None:
    assert Place(node=OTHER) not in predicted(0.0)
    assert not Outlook(believe=lambda node: 0.0).has_rivals("sum", VIEW, 0.0)
    assert Outlook().has_rivals("sum", VIEW, 0.0)


def test_what_calls_of_a_size_took_is_expected_again_here_and_there() -> None:
    outlook = Outlook()
    for _ in range(30):
        for option in outlook.options(SHAPE, Mine(COST, [COST], 0.0), VIEW, 0.0):
            said = predict(SHAPE, replace(option, stretch=1.0))
            assert said is not None
            outlook.took(option, SHAPE, 1.5 * said, 0.0)
    small = replace(SHAPE, work=1.0)
    for shape, expected in ((SHAPE, 1.5), (small, 1.0)):
        for option in outlook.options(shape, Mine(COST, [COST], 0.0), VIEW, 0.0):
            assert option.stretch == pytest.approx(expected, rel=0.02)
