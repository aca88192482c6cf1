"""When a connection is pinged, and when its silence counts."""

from __future__ import annotations

import pytest

from transport.quic.liveness import PING_EVERY_S, SILENCE_S, WAITING_PING_EVERY_S, Liveness, Verdict


def test_idle_connection_is_pinged_and_otherwise_left_alone() -> None:
    liveness = Liveness(0.0)
    verdicts = [liveness.check(step * 0.5) for step in range(1, 101)]
    assert verdicts.count(Verdict.PING) == int(50 / PING_EVERY_S)
    assert Verdict.SILENT not in verdicts


def test_quiet_peer_that_somebody_waits_for_is_asked_often() -> None:
    liveness = Liveness(0.0)
    verdicts = [liveness.check(step * 0.5, is_waiting=True) for step in range(1, 41)]
    assert verdicts.count(Verdict.PING) == int(20 / WAITING_PING_EVERY_S)


def test_peer_that_talks_is_not_asked_more_often_for_being_waited_for() -> None:
    liveness = Liveness(0.0)
    verdicts = []
    for step in range(1, 41):
        liveness.heard(step * 0.5 - 0.1)
        verdicts.append(liveness.check(step * 0.5, is_waiting=True))
    assert verdicts.count(Verdict.PING) == int(20 / PING_EVERY_S)


def silent_at(liveness: Liveness, start: float) -> float:
    """Check twice a second from `start` until silence is called."""
    now = start
    while liveness.check(now) is not Verdict.SILENT:
        now += 0.5
    return now


def test_unanswered_question_is_silence_in_time() -> None:
    liveness = Liveness(0.0)
    liveness.asked(1.0)
    liveness.asked(1.0 + SILENCE_S - 0.1)  # a later question does not restart the wait for the first
    assert silent_at(liveness, 0.5) == 1.0 + SILENCE_S


def test_anything_heard_is_an_answer() -> None:
    liveness = Liveness(0.0)
    liveness.asked(1.0)
    liveness.heard(1.2)
    assert liveness.check(1.5) is Verdict.FINE
    liveness.asked(2.0)
    assert liveness.check(3.0) is Verdict.FINE


def test_pause_of_our_own_is_not_held_against_the_peer() -> None:
    liveness = Liveness(0.0)
    liveness.check(0.5)
    liveness.asked(0.6)
    assert liveness.check(3600.0) is not Verdict.SILENT
    assert silent_at(liveness, 3600.5) == pytest.approx(3600.0 + SILENCE_S, abs=0.6)
