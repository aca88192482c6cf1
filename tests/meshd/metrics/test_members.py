"""What happens to members is counted from view to view."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.lease import CLAIMS, Claim, encode_claims
from gossip.view import NodeView, Status, View
from meshd.metrics.members import MemberEvents
from tests.llm.views import node, view

ALIVE, SUSPECT, DEAD, LEFT = Status


def seen(*states: tuple[Status, int]) -> MemberEvents:
    events = MemberEvents()
    for status, boot in states:
        events.follow(view(node(1), replace(node(2), status=status, boot=boot)))
    return events


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([(ALIVE, 1), (ALIVE, 1)], {"joined": 1}),
        ([(ALIVE, 1), (SUSPECT, 1), (ALIVE, 1)], {"joined": 1, "suspected": 1, "falsely_suspected": 1}),
        ([(ALIVE, 1), (SUSPECT, 1), (DEAD, 1)], {"joined": 1, "suspected": 1, "died": 1}),
        ([(ALIVE, 1), (DEAD, 1), (ALIVE, 1)], {"joined": 1, "died": 1, "falsely_dead": 1}),
        ([(ALIVE, 1), (DEAD, 1), (ALIVE, 2)], {"joined": 2, "died": 1}),
        ([(ALIVE, 1), (LEFT, 1)], {"joined": 1, "left": 1}),
        ([(DEAD, 1)], {}),
    ],
)
def test_each_kind_is_told_apart(states: list[tuple[Status, int]], expected: dict[str, int]) -> None:
    assert dict(seen(*states).events) == expected


def test_a_member_that_is_forgotten_is_forgotten_here_too() -> None:
    events = seen((ALIVE, 1))
    events.follow(view(node(1)))
    assert events._seen == {}


def host(term: int) -> View:
    claim = Claim("host/toy", term, 5, node(2).node)
    entry: NodeView = replace(node(2), facts={CLAIMS: encode_claims([claim])})
    return view(node(1), entry)


def test_every_new_term_is_an_election() -> None:
    events = MemberEvents()
    for term in (1, 1, 4):
        events.follow(host(term))
    assert events.elections == 2
