"""Text is read as data and nothing else, within limits, and what is written is read back."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forms.datum import QUOTE, Datum, Symbol, unquoted
from forms.errors import BadSyntax, BeyondLimit, FormFailed
from forms.reader import MAX_ATOMS, MAX_DEPTH, read_datum
from forms.writer import write_datum

NAMES = st.from_regex(r"[a-z+*/<>=!?-][a-z0-9*/<>=!?-]{0,8}", fullmatch=True).filter(
    lambda name: name.strip("+-") and not name.strip("+-")[0].isdigit()
)
DATA: st.SearchStrategy[Datum] = st.recursive(
    st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.text(max_size=8)
    | NAMES.map(Symbol),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=30,
)


@given(DATA)
@example(["a)", "(b", 'c"', "\\"])
@example(["plain", "strings", ""])
@example([1, -2, 3, "x", Symbol("+-")])
@example([["x", "y"], [], [["x"]]])
def test_what_is_written_is_read_back(datum: Datum) -> None:
    again = read_datum(write_datum(datum))
    assert again == datum
    assert write_datum(again) == write_datum(datum)


@pytest.mark.parametrize(
    ("text", "datum"),
    [
        ("(ping)", [Symbol("ping")]),
        ("  ( echo\n\t(1  2.5 -3) ) ", [Symbol("echo"), [1, 2.5, -3]]),
        ("(f '(1 2) 32)", [Symbol("f"), [QUOTE, [1, 2]], 32]),
        ("''x", [QUOTE, [QUOTE, Symbol("x")]]),
        ("('a 'b)", [[QUOTE, Symbol("a")], [QUOTE, Symbol("b")]]),
        ('(\'"a" "b")', [[QUOTE, "a"], "b"]),
        ("('1 2)", [[QUOTE, 1], 2]),
        ('("a" b "c")', ["a", Symbol("b"), "c"]),
        ('("a(" "b)" c)', ["a(", "b)", Symbol("c")]),
        (r'"\"\\\n\t\r"', '"\\\n\t\r'),
        ("(#t #f)", [True, False]),
        ("(1 2 x 3)", [1, 2, Symbol("x"), 3]),
        ("(1 +- 2)", [1, Symbol("+-"), 2]),
        ("1e3", 1000.0),
        ("()", []),
        ('"Grüße"', "Grüße"),
    ],
)
def test_reads(text: str, datum: Datum) -> None:
    assert read_datum(text) == datum


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "(",
        ")",
        "(a",
        "a b",
        "(a))",
        "'",
        "(')",
        '"open',
        r'"\x"',
        "(1 . 2)",
        "; no",
        "(a ;b\n)",
        "#x1",
        '("a)',
    ],
)
def test_what_is_no_datum_is_a_syntax_error(text: str) -> None:
    with pytest.raises(BadSyntax):
        read_datum(text)


def test_depth_counts_the_outer_list_as_one_and_quotes() -> None:
    read_datum("(" * MAX_DEPTH + ")" * MAX_DEPTH)
    read_datum("'" * (MAX_DEPTH - 1) + "()")
    for text in ("(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1), "'" * MAX_DEPTH + "()", "(" * 10_000_000):
        with pytest.raises(BeyondLimit):
            read_datum(text)


@pytest.mark.parametrize("atom", ["1", '"a"', "x", "()"])
def test_atoms_are_counted(atom: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forms.reader.MAX_ATOMS", 1000)
    read_datum("(" + f"{atom} " * 999 + ")")
    with pytest.raises(BeyondLimit):
        read_datum("(" + f"{atom} " * 1000 + ")")
    assert MAX_ATOMS == 4_000_000


def test_numbers_of_absurd_length_are_refused_at_once() -> None:
    for text in ("9" * 1_000_000, "(1 " + "9" * 1_000_000 + ")", "x" * 1_000_000):
        with pytest.raises(BeyondLimit):
            read_datum(text)


@given(st.text(alphabet="()'\"\\ abc019.+-#;\n", max_size=60))
def test_nothing_but_our_errors_escapes(text: str) -> None:
    try:
        datum = read_datum(text)
    except FormFailed:
        return
    assert read_datum(write_datum(datum)) == datum


def test_work_grows_with_the_text_and_no_faster() -> None:
    """Eight times the text may take sixteen times as long on a busy machine, not sixty-four."""

    def seconds(pattern: str, count: int) -> float:
        text = "(" + pattern * count + ")"
        start = time.thread_time()
        read_datum(text)
        return time.thread_time() - start

    for pattern in ('"aa" ', "17 ", '"a" b ', '("a" "b") ', '"a\\n" ', '"(" x '):
        short, long = (min(seconds(pattern, count) for _ in range(3)) for count in (2000, 16_000))
        assert long < 30 * short + 0.05


def test_a_quote_is_looked_through() -> None:
    assert unquoted(read_datum("'(1 2)")) == [1, 2]
    assert unquoted(read_datum("(1 2)")) == [1, 2]


def test_symbols_are_not_strings() -> None:
    assert Symbol("a") != "a"
    assert Symbol("a") != "a"
    assert Symbol("a") == Symbol("a")
    assert len({Symbol("a"), "a"}) == 2
