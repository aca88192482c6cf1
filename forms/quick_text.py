"""The short way for the calls that are long: one list of byte strings of one length, in hex, and little else. Pure.

Whatever is unusual about a text is left to the reader, which says what is wrong with it; so both ways give the same.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from forms.datum import Datum, Symbol, unquoted
from forms.errors import FormFailed
from forms.reader import MAX_ATOMS, read_datum
from forms.rows import Rows

SHORTEST_BYTES = 2000
"""A shorter text is read as fast by the reader."""
_HEAD = re.compile(rb"""[ \t\r\n]*\([ \t\r\n]*(?:bend[ \t\r\n]*\([ \t\r\n]*)?[^ \t\r\n()"';]+[ \t\r\n]+'?\(""")
BEND = Symbol("bend")
MOST_BESIDE = 1000
"""Letters of a text that are not its list; and as many atoms at most."""
LINE_HEAD_BYTES = len("(ok (")


@runtime_checkable
class HasTextRows(Protocol):
    """A form whose calls begin with a list of byte strings in hex, and whose result is such a list of one length."""

    def read_text_rows(self, rows: Rows, rest: list[Datum]) -> Any:
        """The call that `read_text` reads from the list and the arguments after it. Raises what it raises."""

    def text_rows(self, result: Any) -> tuple[bytes | memoryview, int]:
        """The strings of `write_text`, one after the other, and their length."""


@dataclass(frozen=True, slots=True)
class RowsCall:
    """name: of the form.  rest: the arguments after the list."""

    name: str
    rows: Rows
    rest: list[Datum]


def read_rows_call(text: bytes) -> RowsCall | None:
    """The call, where it is one list of strings of hex, alike in length, one space between them."""
    head = _HEAD.match(text) if len(text) >= SHORTEST_BYTES else None
    end = text.find(b")", head.end()) if head is not None else -1
    if head is None or end < 0 or head.end() + len(text) - end > MOST_BESIDE:
        return None
    rows = _read_rows(text, head.end(), end)
    if rows is None or len(rows) > MAX_ATOMS - MOST_BESIDE:
        return None
    try:
        datum = read_datum((text[: head.end()] + text[end:]).decode())
    except (FormFailed, UnicodeDecodeError):
        return None
    match datum:
        case [Symbol() as bend, [Symbol() as name, emptied, *rest]] if bend == BEND:
            pass
        case [Symbol() as name, emptied, *rest]:
            pass
        case _:
            return None
    return RowsCall(str.__str__(name), rows, rest) if unquoted(emptied) == [] else None


def _read_rows(text: bytes, start: int, end: int) -> Rows | None:
    """The strings between two parentheses. The one that ends the list stands where a space would."""
    import numpy  # 20 MB that a door need not hold

    width = text.find(b'"', start + 1, end) - start - 1
    count, left = divmod(end + 1 - start, width + 3)
    if width < 2 or width % 2 or left or count < 2:
        return None
    table = numpy.frombuffer(text, numpy.uint8, end + 1 - start, start).reshape(count, width + 3)
    quotes = table[:, [0, width + 1]] == ord('"')
    if not quotes.all() or not (table[:-1, width + 2] == ord(" ")).all():
        return None
    try:
        # A quote or a space within a string is no digit either.
        return Rows.even(binascii.unhexlify(table[:, 1 : width + 1].tobytes()), width // 2, count)
    except binascii.Error:
        return None


def write_rows_line(rows: bytes | memoryview, width: int) -> bytes:
    """`(ok ("hex" …))` and a newline."""
    if not len(rows):
        return b"(ok ())\n"
    import numpy  # as above

    digits, count = binascii.hexlify(rows), len(rows) // width
    line = numpy.empty(LINE_HEAD_BYTES + (2 * width + 3) * count + 2, numpy.uint8)
    table = line[LINE_HEAD_BYTES:-2].reshape(count, 2 * width + 3)
    table[:, 1 : 2 * width + 1] = numpy.frombuffer(digits, numpy.uint8).reshape(count, 2 * width)
    for column, mark in ((0, '"'), (2 * width + 1, '"'), (2 * width + 2, " ")):
        table[:, column] = ord(mark)
    line[:LINE_HEAD_BYTES] = list(b"(ok (")
    line[-3:] = list(b"))\n")
    return line.tobytes()
