"""The numbers of a suspicion."""

from __future__ import annotations

import pytest

from gossip.suspicion import Suspicion, accusers_needed, minimum_s
from transport.interface import NodeId

ACCUSERS = [NodeId(bytes([index]) * 32) for index in range(6)]


@pytest.mark.parametrize(
    ("nodes", "needed"), [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 2), (7, 2), (8, 3), (9, 3), (200, 3)]
)
def test_accusers_needed_are_clamped_to_those_there_are(nodes: int, needed: int) -> None:
    assert accusers_needed(nodes) == needed


@pytest.mark.parametrize(("nodes", "shortest"), [(1, 3.0), (5, 3.0), (10, 3.0), (100, 6.0), (1000, 9.0)])
def test_shortest_wait_grows_with_the_digits_of_the_mesh(nodes: int, shortest: float) -> None:
    assert minimum_s(nodes, 1.0) == pytest.approx(shortest)


def test_each_accuser_shortens_the_wait_until_three_further_ones() -> None:
    suspicion = Suspicion(100.0, 10, 1.0)
    waits = []
    for accuser in ACCUSERS[:4]:
        assert suspicion.accuse(accuser)
        waits.append(suspicion.timeout_s)
    # max − (max − min)·log(c+1)/log 4 with min 3 and max 18
    assert waits == pytest.approx([18.0, 10.5, 6.112781, 3.0])
    assert suspicion.deadline == pytest.approx(103.0)


def test_a_fourth_further_accuser_is_not_worth_passing_on() -> None:
    suspicion = Suspicion(0.0, 10, 1.0)
    assert [suspicion.accuse(accuser) for accuser in ACCUSERS[:5]] == [True, True, True, True, False]


def test_the_same_accuser_counts_once() -> None:
    suspicion = Suspicion(0.0, 10, 1.0)
    assert suspicion.accuse(ACCUSERS[0])
    assert not suspicion.accuse(ACCUSERS[0])
    assert suspicion.timeout_s == 18.0


def test_with_nobody_else_to_ask_the_wait_is_the_shortest_at_once() -> None:
    suspicion = Suspicion(0.0, 3, 1.0)
    suspicion.accuse(ACCUSERS[0])
    assert suspicion.timeout_s == 3.0


def test_a_pause_of_the_observer_is_added_to_the_wait() -> None:
    suspicion = Suspicion(0.0, 3, 1.0)
    suspicion.extend(7.5)
    assert suspicion.deadline == 10.5


def test_a_voice_is_wanted_until_the_wait_is_shortest() -> None:
    suspicion = Suspicion(0.0, 10, 1.0)
    suspicion.accuse(ACCUSERS[0])
    assert (suspicion.wants(ACCUSERS[0]), suspicion.wants(ACCUSERS[1])) == (False, True)
    for accuser in ACCUSERS[1:4]:
        assert suspicion.wants(ACCUSERS[5])
        suspicion.accuse(accuser)
    assert not suspicion.wants(ACCUSERS[5])
    hastened = Suspicion(0.0, 10, 1.0)
    hastened.hasten()
    assert not hastened.wants(ACCUSERS[1])
