"""What a request does after each failure, by the failure and the time that is left."""

from __future__ import annotations

import pytest

from llm.chat import ACCEPT_TIMEOUT_S
from llm.errors import HostFailed, HostSilent, NoHost, QueueFull, RequestFailed
from llm.tries import ACCEPT_WITH_OTHERS_S, RECOVERY_S, SAME_NODE_PAUSE_S, SHORTEST_ACCEPT_S, Tries
from tests.llm.views import node_id

ONE, OTHER = node_id(1), node_id(2)
NOBODY = NoHost("nobody")


def silence() -> HostSilent:
    return HostSilent("said nothing", retryable=True)


def test_what_may_not_be_retried_ends_it_at_once() -> None:
    error = HostFailed("broke off", retryable=False)
    with pytest.raises(HostFailed) as raised:
        Tries().note(ONE, error, 0.0)
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "is_left_out"),
    [(HostFailed("engine died", retryable=True), False), (QueueFull("full"), True), (silence(), True)],
)
def test_an_engine_that_failed_may_be_asked_again_the_others_not(error: RequestFailed, is_left_out: bool) -> None:
    tries = Tries()
    tries.note(ONE, error, 0.0)
    assert (ONE in tries.left_out, ONE in tries.failed) == (is_left_out, not is_left_out)


def test_who_was_silent_is_asked_again_once_there_is_nobody_else() -> None:
    tries = Tries()
    tries.note(ONE, silence(), 0.0)
    tries.note(OTHER, QueueFull("full"), 0.1)

    assert tries.wait_s(NOBODY, 0.2) == SAME_NODE_PAUSE_S
    assert set(tries.left_out) == {OTHER}


def test_with_too_little_time_for_one_more_try_it_only_waits_for_news() -> None:
    tries = Tries()
    tries.note(ONE, silence(), 0.0)
    late = RECOVERY_S - SHORTEST_ACCEPT_S

    assert tries.wait_s(NOBODY, late) == pytest.approx(SHORTEST_ACCEPT_S)
    assert set(tries.left_out) == {ONE}


def test_the_first_error_is_told_when_the_time_is_over() -> None:
    tries, first = Tries(), silence()
    tries.note(ONE, first, 0.0)
    with pytest.raises(HostSilent) as raised:
        tries.wait_s(NOBODY, RECOVERY_S)
    assert raised.value is first
    with pytest.raises(HostFailed, match="later"):
        tries.note(OTHER, HostFailed("later", retryable=True), RECOVERY_S)


def test_a_full_queue_is_told_at_once_when_there_is_nobody_else() -> None:
    tries = Tries()
    tries.note(ONE, QueueFull("full"), 0.0)
    with pytest.raises(QueueFull):
        tries.wait_s(NOBODY, 0.0)


def test_less_patience_where_another_could_be_asked_and_where_time_runs_out() -> None:
    tries = Tries()
    assert tries.accept_timeout_s(0.0, has_others=False) == ACCEPT_TIMEOUT_S
    assert tries.accept_timeout_s(0.0, has_others=True) == ACCEPT_WITH_OTHERS_S < ACCEPT_TIMEOUT_S
    tries.note(ONE, silence(), 0.0)
    assert tries.accept_timeout_s(RECOVERY_S - 0.7, has_others=False) == pytest.approx(0.7)
    assert tries.accept_timeout_s(RECOVERY_S, has_others=False) == SHORTEST_ACCEPT_S
