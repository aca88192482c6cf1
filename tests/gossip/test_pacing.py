"""How often a node says the same thing anew."""

from __future__ import annotations

import pytest

from gossip.pacing import Pacer, least_interval_s


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 0.2), (5, 1.0), (10, 2.0), (105, 6.0), (200, 10.0), (1000, 10.0)])
def test_the_least_interval_grows_with_the_mesh(nodes: int, seconds: float) -> None:
    assert least_interval_s(nodes) == pytest.approx(seconds)


def test_the_first_word_goes_at_once_and_later_ones_wait_with_the_last_replacing_the_rest() -> None:
    pacer = Pacer()
    assert pacer.admit("load", b"1", 10, 0.0)
    assert not pacer.admit("load", b"2", 10, 0.5)
    assert not pacer.admit("load", b"3", 10, 1.0)
    assert pacer.due(10, 1.9) == []
    assert pacer.due(10, 2.0) == [("load", b"3", False)]
    assert pacer.due(10, 9.0) == []


def test_what_is_urgent_goes_at_once_and_leaves_nothing_waiting() -> None:
    pacer = Pacer()
    pacer.admit("load", b"1", 10, 0.0)
    pacer.admit("load", b"2", 10, 0.5)
    assert pacer.admit("load", b"3", 10, 0.6, is_urgent=True)
    assert pacer.due(10, 9.0) == []


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True), (False, False)])
def test_what_waits_is_quiet_only_if_nothing_of_it_was_loud(first: bool, second: bool) -> None:
    pacer = Pacer()
    pacer.admit("load", b"1", 10, 0.0)
    pacer.admit("load", b"2", 10, 0.5, is_quiet=first)
    pacer.admit("load", b"3", 10, 0.6, is_quiet=second)
    assert pacer.due(10, 2.0) == [("load", b"3", first and second)]
