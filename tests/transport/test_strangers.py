"""Places for half-open handshakes: few for addresses that are only claimed, some for each that is proved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.quic.strangers import (
    MAX_HALF_OPEN,
    MAX_PER_NETWORK,
    RETRY_ABOVE_HALF_OPEN,
    RETRY_ABOVE_PER_NETWORK,
    Strangers,
    Welcome,
    network_of,
)


def filled(network: str, has_proved: bool, count: int) -> Strangers:
    strangers = Strangers()
    for _ in range(count):
        strangers.begin(network, has_proved)
    return strangers


def test_few_may_begin_without_a_question() -> None:
    assert Strangers().judge("a", False) is Welcome.ACCEPT
    assert filled("a", False, RETRY_ABOVE_PER_NETWORK - 1).judge("a", False) is Welcome.ACCEPT


def test_one_network_is_asked_to_prove_itself_before_the_others_are() -> None:
    strangers = filled("a", False, RETRY_ABOVE_PER_NETWORK)
    assert strangers.judge("a", False) is Welcome.RETRY
    assert strangers.judge("a", True) is Welcome.ACCEPT
    assert strangers.judge("b", False) is Welcome.ACCEPT


def test_everyone_is_asked_when_many_stand_half_open() -> None:
    strangers = Strangers()
    for number in range(RETRY_ABOVE_HALF_OPEN):
        strangers.begin(str(number), False)
    assert strangers.judge("new", False) is Welcome.RETRY
    assert strangers.judge("new", True) is Welcome.ACCEPT


def test_network_that_fills_its_places_leaves_those_of_others() -> None:
    strangers = filled("a", True, MAX_PER_NETWORK)
    assert strangers.judge("a", True) is Welcome.IGNORE
    assert strangers.judge("b", True) is Welcome.ACCEPT


def test_forged_addresses_do_not_use_up_the_places_of_their_owner() -> None:
    strangers = Strangers()
    for _ in range(1000):
        if strangers.judge("victim", False) is Welcome.ACCEPT:
            strangers.begin("victim", False)
    assert strangers.judge("victim", True) is Welcome.ACCEPT
    assert len(strangers) == RETRY_ABOVE_PER_NETWORK


def test_there_is_an_end_to_all_of_them() -> None:
    strangers = Strangers()
    for number in range(MAX_HALF_OPEN):
        strangers.begin(str(number), True)
    assert strangers.judge("new", True) is Welcome.IGNORE
    strangers.end("0", True)
    assert strangers.judge("new", True) is Welcome.ACCEPT


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_who_may_share_an_address(host: str, network: str) -> None:
    assert network_of(host) == network


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_bounds_hold_in_any_history(history: list[tuple[str, bool, bool]]) -> None:
    strangers = Strangers()
    inside: list[tuple[str, bool]] = []
    for network, has_proved, is_ending in history:
        if is_ending and inside:
            strangers.end(*inside.pop(0))
        elif strangers.judge(network, has_proved) is Welcome.ACCEPT:
            strangers.begin(network, has_proved)
            inside.append((network, has_proved))
        assert len(strangers) == len(inside) <= MAX_HALF_OPEN
        assert all(inside.count((network, True)) <= MAX_PER_NETWORK for network in "abc")
        assert all(inside.count((network, False)) <= RETRY_ABOVE_PER_NETWORK for network in "abc")
