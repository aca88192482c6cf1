"""What S-expression text is read as, and written from. It is data: nothing here is ever evaluated.

Lists are Python lists, numbers are int and float, `#t` and `#f` bool, strings str; symbols are `Symbol`.
"""

from __future__ import annotations

from typing import TypeAlias


class Symbol(str):
    """A name, such as the head of a call. Two of one spelling are equal; one never equals a string of text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("symbol", str(self)))

    def __repr__(self) -> str:
        return f"Symbol({str(self)!r})"


Datum: TypeAlias = "int | float | bool | str | Symbol | list[Datum]"


class Spliced(list["Datum"]):
    """A result whose items stand behind `ok` themselves, without a list around them."""


QUOTE = Symbol("quote")


def unquoted(datum: Datum) -> Datum:
    """`x` for `'x`; anything else as it is."""
    if isinstance(datum, list) and len(datum) == 2 and datum[0] == QUOTE:
        return datum[1]
    return datum
