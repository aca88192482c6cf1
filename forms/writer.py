"""Writes a datum as text, so that reading it gives it back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from forms.datum import Datum, Symbol

SPECIAL = re.compile(r'["\\\n\t\r]')
ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def write_datum(datum: Datum) -> str:
    """One line without its newline. Floats keep a point or an exponent, so that they stay floats."""
    return "".join(_pieces(datum))


def _pieces(datum: Datum) -> Iterator[str]:
    match datum:
        case bool():
            yield "#t" if datum else "#f"
        case Symbol():
            yield str.__str__(datum)
        case str():
            yield '"' + SPECIAL.sub(lambda found: ESCAPED[found[0]], datum) + '"'
        case list():
            yield from _list(datum)
        case float():
            yield repr(datum)
        case int():
            yield str(datum)


def _list(items: list[Datum]) -> Iterator[str]:
    yield "("
    kinds = set(map(type, items))
    if kinds == {int}:
        yield " ".join(map(str, items))
    elif kinds == {str} and not any(map(SPECIAL.search, items)):  # type: ignore[arg-type]
        yield '"' + '" "'.join(items) + '"'  # type: ignore[arg-type]
    else:
        for place, item in enumerate(items):
            yield " " if place else ""
            yield from _pieces(item)
    yield ")"
