"""Who is asked to share a model that is served alone meanwhile."""

from __future__ import annotations

from dataclasses import replace

from gossip.lease_message import LEASE_S
from meshd.split import has_settled
from tests.llm.views import node


def test_who_has_just_started_again_rests_before_it_gives_a_lease_and_is_not_asked_sooner() -> None:
    back = replace(node(2), boot=2, known_for_s=LEASE_S - 1)

    assert not has_settled(back)
    assert has_settled(replace(back, known_for_s=LEASE_S))


def test_who_never_ran_before_has_nothing_to_rest_for() -> None:
    assert has_settled(replace(node(2), boot=1, known_for_s=0.0))
