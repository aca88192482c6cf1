"""What status says of sessions, out of what their child tells."""

from __future__ import annotations

from llm.sessions.stats import SessionStats, read_stats, write_stats
from meshd.cli.status import _sessions
from meshd.session_status import session_rows

TOLD = {"open": 7, "resident": 3, "bounded": 1, "parked": 4, "active": 2, "live_bytes": 900, "parked_bytes": 5000}


def test_what_the_child_tells_is_read_and_what_is_not_known_passed_over() -> None:
    text = write_stats(TOLD) + "meshd_sessions:newer 5\n# another line\n"
    assert read_stats(text) == SessionStats(**TOLD)
    assert read_stats("") == SessionStats()


def test_a_child_that_has_ended_has_everybody_parked_and_nothing_in_memory() -> None:
    rest = SessionStats(**TOLD).at_rest()
    assert (rest.open, rest.parked, rest.parked_bytes) == (7, 7, 5000)
    assert (rest.resident, rest.bounded, rest.active, rest.live_bytes, rest.resident_bytes) == (0, 0, 0, 0, 0)


def test_models_with_sessions_have_a_row_each() -> None:
    stats = {"b": SessionStats(**TOLD), "a": SessionStats(open=1, parked=1), "none": SessionStats()}
    rows = session_rows(stats)
    assert [row["model"] for row in rows] == ["a", "b"]
    assert rows[1]["bounded"] == 1
    assert rows[1]["live_bytes"] == 900


def test_where_bounded_sessions_are_counted_it_is_said_what_they_are() -> None:
    rows = session_rows({"toy": SessionStats(**TOLD), "whole": SessionStats(**TOLD | {"bounded": 0})})
    some, none = _sessions(rows)
    assert "1 bounded: they recall what a search finds, and do not answer as full attention would" in some
    assert "bounded" not in none
