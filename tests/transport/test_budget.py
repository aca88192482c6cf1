"""How much of a node's time others may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transport import budget
from transport.budget import Allowance, Budget, PeerBudgets
from transport.interface import NodeId

A, B = NodeId(b"a" * 32), NodeId(b"b" * 32)
SMALL = Allowance(in_flight=2, burst=3, per_second=1.0)
PLENTY = Allowance(in_flight=10_000, burst=10_000, per_second=1000.0)


def spend(budgets: PeerBudgets, peer: NodeId, now: float, tries: int = 20) -> int:
    """Ask one question after the other; how many were allowed."""
    allowed = 0
    for _ in range(tries):
        if budgets.take(peer, now):
            budgets.give_back(peer)
            allowed += 1
    return allowed


def test_only_so_many_are_in_flight() -> None:
    one = Budget(SMALL)
    assert [one.take(0.0) for _ in range(3)] == [True, True, False]
    one.give_back()
    assert one.take(0.0)


def test_a_burst_runs_out_and_comes_back_with_time() -> None:
    budgets = PeerBudgets(SMALL, PLENTY)
    assert spend(budgets, A, 0.0) == 3
    assert spend(budgets, A, 2.0) == 2
    assert spend(budgets, A, 1e9) == 3


def test_a_clock_that_jumps_back_gives_nothing() -> None:
    budgets = PeerBudgets(SMALL, PLENTY)
    assert spend(budgets, A, 100.0) == 3
    assert spend(budgets, A, 50.0) == 0


def test_one_peer_does_not_take_what_is_anothers() -> None:
    budgets = PeerBudgets(SMALL, PLENTY)
    assert spend(budgets, A, 0.0) == 3
    assert spend(budgets, B, 0.0) == 3


def test_all_together_have_a_limit_too() -> None:
    budgets = PeerBudgets(SMALL, Allowance(in_flight=10, burst=4, per_second=0.0))
    assert spend(budgets, A, 0.0) + spend(budgets, B, 0.0) == 4


def test_what_is_refused_to_all_costs_a_peer_no_place_in_flight() -> None:
    budgets = PeerBudgets(Allowance(1, 10, 0.0), Allowance(1, 10, 0.0))
    assert budgets.take(A, 0.0)
    assert not budgets.take(B, 0.0)
    budgets.give_back(A)
    assert budgets.take(B, 0.0)


def test_peers_that_rest_are_forgotten_and_those_that_do_not_are_kept() -> None:
    budgets = PeerBudgets(SMALL, PLENTY)
    busy = NodeId(b"busy".ljust(32))
    assert budgets.take(busy, 0.0)
    for number in range(budget.MAX_PEERS - 1):
        assert spend(budgets, NodeId(number.to_bytes(32, "big")), 0.0, tries=1) == 1
    assert not budgets.take(A, 0.5)  # every place is taken, and nobody has rested
    assert budgets.take(A, 10.0)
    assert len(budgets._peers) == 2 and busy in budgets._peers


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=60))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[bool, float]]) -> None:
    one, now, taken, open_questions = Budget(SMALL), 0.0, 0, 0
    for gives_back, after_s in steps:
        now += after_s
        if gives_back and open_questions:
            one.give_back()
            open_questions -= 1
        elif one.take(now):
            taken += 1
            open_questions += 1
        assert open_questions <= SMALL.in_flight
        assert taken <= SMALL.burst + now * SMALL.per_second + 1e-6
