"""The end of a datum is found wherever the bytes are cut, and each byte is looked at a bounded number of times."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forms.errors import BeyondLimit
from forms.text_framing import TextMeasure, skip_white
from forms.writer import write_datum
from tests.forms.test_text import DATA


def end_of(stream: bytes, cuts: list[int]) -> int | None:
    measure, received = TextMeasure(), bytearray()
    for cut in [*cuts, len(stream)]:
        received += stream[len(received) : max(len(received), cut)]
        if (end := measure.advance(received)) is not None:
            return end
    return None


@given(st.lists(DATA, max_size=5), st.lists(st.integers(0, 200)).map(sorted), st.binary(max_size=20))
def test_the_end_is_found_however_the_bytes_come(items: list[object], cuts: list[int], after: bytes) -> None:
    text = write_datum(items).encode()  # type: ignore[arg-type]
    assert end_of(text + after, cuts) == len(text)
    assert end_of(text[:-1], cuts) is None


@pytest.mark.parametrize(
    "text", ['("a)")', '("(" b)', r'("\"" ")")', r'("\\" x)', r'("\\\")")', '("a\nb)" (c "d(") ")")', '(("a") "b")']
)
def test_parentheses_in_strings_do_not_count(text: str) -> None:
    stream = text.encode()
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert end_of(stream + b"(next)", [first, second]) == len(stream), (first, second)


def test_byte_by_byte() -> None:
    stream = rb'(f "a\"b)" (1 "c") "d")'
    assert end_of(stream + b" ", list(range(len(stream) + 1))) == len(stream)


def test_too_deep_and_too_long_are_refused_while_they_come() -> None:
    with pytest.raises(BeyondLimit):
        TextMeasure().advance(bytearray(b"(" * 65))
    with pytest.raises(BeyondLimit):
        TextMeasure(limit_bytes=100).advance(bytearray(b"(" + b"x" * 100))


@pytest.mark.parametrize("piece", [b'"ab" ', b"12 ", b"(1 2) ", b'"a\\"b" ', b"\\", b'" x'])
def test_work_grows_with_the_bytes_and_no_faster(piece: bytes) -> None:
    def seconds(count: int) -> float:
        stream = b"(" + piece * count
        measure, received = TextMeasure(), bytearray()
        start = time.thread_time()
        for at in range(0, len(stream), 4096):
            received += stream[at : at + 4096]
            measure.advance(received)
        return time.thread_time() - start

    short, long = (min(seconds(count) for _ in range(3)) for count in (20_000, 160_000))
    assert long < 30 * short + 0.05


def test_white_space_before_a_datum_is_skipped() -> None:
    received = bytearray(b" \r\n\t(x)")
    skip_white(received)
    assert received == b"(x)"
    only = bytearray(b"  \n")
    skip_white(only)
    assert not only
