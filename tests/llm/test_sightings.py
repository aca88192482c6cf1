"""Models that were there a moment ago."""

from __future__ import annotations

from llm.sightings import REMEMBERED_S, Sightings


def test_what_was_found_is_recent_for_a_while_and_counts_from_the_last_time() -> None:
    sightings = Sightings()
    sightings.note("tiny", 0.0)
    sightings.note("other", 1.0)
    sightings.note("tiny", 2.0)

    assert sightings.is_recent("tiny", 2.0 + REMEMBERED_S)
    assert not sightings.is_recent("other", 1.1 + REMEMBERED_S)
    assert not sightings.is_recent("never", 2.0)


def test_what_is_old_is_forgotten() -> None:
    sightings = Sightings()
    for number in range(1000):
        sightings.note(f"model-{number}", float(number))

    assert sum(sightings.is_recent(f"model-{number}", 0.0) for number in range(1000)) == REMEMBERED_S + 1
