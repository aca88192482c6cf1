"""11: placement counts on no more than was attested, on less with age, and on nothing after fraud or expiry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.attest.worth import HALF_LIFE_S, Attested, Trust, lower_rate, share_of_claim, worth
from transport.interface import NodeId

NOW = 1_000_000.0


def verdict(
    verifier: int, speed: float, *, is_honest: bool = True, age_s: float = 0.0, left_s: float = 10.0
) -> Attested:
    return Attested(NodeId(bytes([verifier]) * 32), speed, is_honest, NOW - age_s, NOW + left_s)


def attested(*verdicts: Attested, claimed: float = 100.0, nodes: int = 5) -> float:
    return worth(claimed, verdicts, NOW, Trust.ATTESTED, nodes)


def test_the_median_of_live_verdicts_counts_and_the_claim_is_the_most() -> None:
    assert attested(verdict(1, 40), verdict(2, 50), verdict(3, 90)) == 50
    assert attested(verdict(1, 140), verdict(2, 150), verdict(3, 190)) == 100


def test_one_verdict_is_enough_in_a_mesh_of_two_only() -> None:
    assert attested(verdict(1, 40), nodes=2) == 40
    assert attested(verdict(1, 40), nodes=3) == 0
    assert worth(100, [verdict(1, 40)], NOW, Trust.MEMBERS, 3) == 100


def test_who_is_unproven_counts_for_members_and_for_nothing_where_attested() -> None:
    assert worth(100, [], NOW, Trust.MEMBERS, 5) == 100
    assert worth(100, [], NOW, Trust.ATTESTED, 5) == 0


def test_weight_falls_with_age_and_ends_with_expiry() -> None:
    fresh = attested(verdict(1, 40), verdict(2, 40))
    assert attested(verdict(1, 40, age_s=HALF_LIFE_S), verdict(2, 40, age_s=HALF_LIFE_S)) == pytest.approx(fresh / 2)
    assert attested(verdict(1, 40, left_s=0), verdict(2, 40, left_s=0)) == 0
    assert attested(verdict(1, 40, age_s=-5), verdict(2, 40, age_s=-5)) == 0


def test_among_members_age_makes_nobody_slower_than_who_was_never_proved() -> None:
    old = [verdict(1, 40, age_s=HALF_LIFE_S), verdict(2, 40, age_s=HALF_LIFE_S)]
    assert worth(100, old, NOW, Trust.MEMBERS, 5) == 40
    assert worth(40, old, NOW, Trust.MEMBERS, 5) == worth(40, [], NOW, Trust.MEMBERS, 5)


def test_a_claim_is_believed_as_far_as_it_was_proved() -> None:
    proved = [verdict(1, 40), verdict(2, 50)]
    assert share_of_claim(90, proved, NOW, Trust.MEMBERS, 5) == 0.5
    assert share_of_claim(30, proved, NOW, Trust.MEMBERS, 5) == 1.0
    assert share_of_claim(0, proved, NOW, Trust.MEMBERS, 5) == 0.9
    assert share_of_claim(0, [], NOW, Trust.MEMBERS, 5) == 1.0
    assert share_of_claim(90, [], NOW, Trust.ATTESTED, 5) == 0.0


@pytest.mark.parametrize("trust", list(Trust))
def test_a_live_verdict_of_fraud_leaves_nothing(trust: Trust) -> None:
    verdicts = [verdict(1, 40), verdict(2, 40), verdict(3, 0, is_honest=False)]
    assert worth(100, verdicts, NOW, trust, 5) == 0
    later = [*verdicts, verdict(3, 30)]
    assert worth(100, [verdict(3, 0, is_honest=False, age_s=9), *later[:2], later[3]], NOW, trust, 5) == 40


@given(
    st.floats(0, 1e6),
    st.lists(st.tuples(st.integers(1, 4), st.floats(0, 1e6), st.floats(0, 1e6))),
    st.sampled_from(Trust),
)
def test_never_above_the_claim_nor_the_best_verdict(
    claimed: float, said: list[tuple[int, float, float]], trust: Trust
) -> None:
    verdicts = [verdict(verifier, speed, age_s=age_s) for verifier, speed, age_s in said]
    found = worth(claimed, verdicts, NOW, trust, 5)
    assert found <= claimed
    if trust is Trust.ATTESTED:
        assert found <= max((one.speed for one in verdicts), default=0.0)


def test_the_lower_bound_lies_below_what_was_found() -> None:
    assert lower_rate(400, 0.05, 10.0) == pytest.approx(800 * (1 - 1.645 / 20))
    assert lower_rate(1, 0.05, 10.0) == 0
