"""A stream of events is cut only between two events."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from llm.events import MAX_HELD_BYTES, WholeEvents


def test_whole_events_pass_untouched() -> None:
    events = WholeEvents()
    chunk = b"data: 1\n\ndata: 2\n\n"
    assert events.feed(chunk) is chunk
    assert events.rest() == b""


def test_half_an_event_waits_for_its_end() -> None:
    events = WholeEvents()
    assert events.feed(b"data: 1\n\nda") == b"data: 1\n\n"
    assert events.feed(b"ta: 2\n") == b""
    assert events.feed(b"\ndata: 3") == b"data: 2\n\n"
    assert events.rest() == b"data: 3"
    assert events.rest() == b""


def test_carriage_returns_end_events_too() -> None:
    assert WholeEvents().feed(b"data: 1\r\n\r\ndata") == b"data: 1\r\n\r\n"


def test_an_endless_event_is_not_held_for_ever() -> None:
    events = WholeEvents()
    assert events.feed(b"x" * MAX_HELD_BYTES) == b""
    assert len(events.feed(b"x")) == MAX_HELD_BYTES + 1


@given(st.lists(st.sampled_from([b"data: a", b"\n", b"\n\n", b": ping", b"\r\n\r\n", b"x"]), max_size=30))
def test_nothing_is_lost_or_reordered_and_every_cut_is_between_events(chunks: list[bytes]) -> None:
    events = WholeEvents()
    out = [events.feed(chunk) for chunk in chunks]
    assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in out if piece)
    assert b"".join(out) + events.rest() == b"".join(chunks)


def test_an_event_in_ever_so_many_pieces_costs_each_piece_once() -> None:
    """A host that dribbles must not keep the asker's loop busy: four times the pieces, about four times the work."""

    def cost_s(pieces: int) -> float:
        events, start = WholeEvents(), time.process_time()
        for _ in range(pieces):
            events.feed(b"x")
        return time.process_time() - start

    assert min(cost_s(200_000) for _ in range(3)) < 9 * min(cost_s(50_000) for _ in range(3))
