"""Rows in one buffer are the rows, however they came into it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forms.rows import Rows

ROWS = st.lists(st.binary(max_size=6), max_size=8) | st.integers(0, 5).flatmap(
    lambda width: st.lists(st.binary(min_size=width, max_size=width), max_size=8)
)


def framed(rows: list[bytes]) -> bytes:
    return b"head" + b"".join(struct.pack("<I", len(row)) + row for row in rows) + b"after"


@given(ROWS)
def test_the_rows_of_a_list_and_of_a_frame(rows: list[bytes]) -> None:
    for packed in (
        Rows.of(rows),
        Rows.framed(framed(rows), 4, len(rows)),
        Rows.framed(memoryview(framed(rows)), 4, len(rows)),
    ):
        assert list(packed) == rows
        assert [packed[place] for place in range(len(rows))] == rows
        assert list(packed[1:5]) == rows[1:5]
        assert packed.total(lambda length: 2 * length + 1) == sum(2 * len(row) + 1 for row in rows)
        data, starts, lengths = packed.arrays()
        assert [data[at : at + length].tobytes() for at, length in zip(starts, lengths, strict=True)] == rows


@pytest.mark.parametrize(("rows", "is_packed"), [(["ab", "cd"], True), (["", ""], True), (["a", "bc"], False)])
def test_rows_of_one_length_need_no_list_of_places(rows: list[str], is_packed: bool) -> None:
    packed = Rows.of([row.encode() for row in rows])
    assert packed.is_packed is is_packed
    assert isinstance(packed.starts, range) is is_packed


def test_rows_of_one_length_within_a_frame_have_their_heads_between_them() -> None:
    rows = Rows.framed(framed([b"abc", b"def"]), 4, 2)
    assert isinstance(rows.lengths, int)
    assert not rows.is_packed
    assert Rows.even(b"abcdef", 2, 3)[2] == b"ef"
    assert list(Rows.even(b"", 0, 3)) == [b""] * 3
