"""How far a transfer is, and how fast lately."""

from __future__ import annotations

from llm.models.transfer import WINDOW_S, Meter


def test_files_add_up() -> None:
    meter = Meter(size_bytes=300, source="the hub")
    meter.told(100, 0.0)
    meter.finished(100)
    meter.told(50, 1.0)
    assert meter.done_bytes == 150
    assert meter.words == "0.0 of 0.0 MB (50 %), 0.0 MB/s, from the hub"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter(size_bytes=10**9)
    for second in range(10):
        meter.told(10**6 * second, float(second))
    for second in range(10, 20):
        meter.told(10**7 + 5 * 10**6 * (second - 10), float(second))
    assert meter.bytes_per_s == 5e6
    assert WINDOW_S < 9


def test_a_transfer_that_goes_on_is_not_faster_for_what_was_here() -> None:
    meter = Meter(size_bytes=10**9)
    meter.told(5 * 10**8, 0.0)
    assert meter.bytes_per_s == 0.0
    meter.told(5 * 10**8 + 10**6, 1.0)
    assert meter.bytes_per_s == 1e6


def test_one_that_began_anew_has_no_negative_rate() -> None:
    meter = Meter(size_bytes=100)
    meter.told(50, 0.0)
    meter.told(0, 1.0)
    assert meter.bytes_per_s == 0.0
