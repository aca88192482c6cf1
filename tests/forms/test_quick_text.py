"""The short way for long lists of hex gives what the reader gives, answers and errors alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import forms.quick_text
from forms.catalogue import Catalogue
from forms.evaluate import Evaluator, ok_line
from forms.live.shake import ShakeFanout
from forms.quick_text import read_rows_call, write_rows_line

NAME = "cuda-shake-fanout"


class Quick(ShakeFanout):
    """Only by its truth, which takes no time to start."""

    fast = None  # type: ignore[assignment]


class Plain(Quick):
    """The same without the short way."""

    read_text_rows = None  # type: ignore[assignment]


QUICK, PLAIN = Evaluator(Catalogue([Quick()])), Evaluator(Catalogue([Plain()]))


@pytest.fixture(autouse=True, scope="module")
def short_texts_go_the_short_way() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forms.quick_text, "SHORTEST_BYTES", 0)
        yield


def text(rows: list[str], out_bytes: object = 32, before: str = "'(", gap: str = " ") -> bytes:
    return f"({NAME} {before}{gap.join(f'{chr(34)}{row}{chr(34)}' for row in rows)}) {out_bytes})".encode()


HEX = st.integers(0, 4).flatmap(
    lambda width: st.lists(st.text("0123456789abcdefABCDEF", min_size=2 * width, max_size=2 * width), max_size=6)
)


@given(HEX, st.sampled_from(["'(", "(", " '  ("]), st.integers(1, 40), st.data())
def test_whatever_is_changed_in_a_text_the_answer_is_the_readers(
    rows: list[str], before: str, out_bytes: int, data: st.DataObject
) -> None:
    sent = text(rows, out_bytes, before)
    if data.draw(st.booleans()):
        sent = b"(bend " + sent + b")"
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(sent) - 1))
        put = data.draw(st.sampled_from([b"", b'"', b" ", b"(", b")", b"a", b"g", b"0", b"\\", b"'", b"\n", b"\xff"]))
        sent = sent[:at] + put + sent[at + data.draw(st.integers(0, 1)) :]
    assert QUICK.text(sent).reply == PLAIN.text(sent).reply


@pytest.mark.parametrize(
    "sent",
    [
        text(["00", "11"]),
        text(["00", "AB"], before="("),
        b"(bend " + text(["00", "11"]) + b")",
        b" \n(  bend\t( " + text(["00"] * 3)[1:] + b") ",
        text(["00", "11"], "1 2 3"),
        text(["00", "11"], '"x"'),
        text(["00", "11"], 0),
    ],
)
def test_the_usual_goes_the_short_way(sent: bytes) -> None:
    call = read_rows_call(sent)
    assert call is not None
    assert call.name == NAME
    assert QUICK.text(sent).reply == PLAIN.text(sent).reply


@pytest.mark.parametrize(
    "sent",
    [
        text([]),
        text(["00"]),
        text(["", ""]),
        text(["000", "111"]),
        text(["00", "1111"]),
        text(["00", "11"], gap="  "),
        text(["00", "11"], gap="\n"),
        text(["0g", "11"]),
        text(['0"', "11"]),
        text(["00", "11"])[:-1],
        text(["00", "11"]) + b" x",
        text(["00", "11"], "'(1)"),
        text(["00", "11"], "x" * 1000),
        b"(quote " + text(["00", "11"]) + b")",
        b"('(" + b'"00" "11"' + b") 32)",
        b"",
    ],
)
def test_what_is_unusual_is_the_readers(sent: bytes) -> None:
    call = read_rows_call(sent)
    assert call is None or b"'(1)" in sent
    assert QUICK.text(sent).reply == PLAIN.text(sent).reply


@given(st.integers(1, 5), st.integers(0, 6))
@example(200, 3)
def test_a_line_of_rows_is_what_the_writer_writes(width: int, count: int) -> None:
    rows = bytes(range(250)) * 5
    rows = rows[: width * count]
    digits = [rows[at : at + width].hex() for at in range(0, len(rows), width)]
    assert write_rows_line(rows, width) == write_rows_line(memoryview(rows), width) == ok_line(list(digits))
