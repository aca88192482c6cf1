"""Reads one datum of S-expression text. Pure, and data only.

Numbers and strings come by the million, one like the other: everything up to the next parenthesis is taken in one step
and split by Python's own code where it is all strings or all integers, which makes a million a matter of a second.
"""

from __future__ import annotations

import re

from forms.datum import QUOTE, Datum, Symbol
from forms.errors import BadSyntax, BeyondLimit

MAX_DEPTH = 64
MAX_ATOMS = 4_000_000
MAX_TEXT_BYTES = 256 << 20
MAX_NUMBER_DIGITS = 4000

WHITE = re.compile(r"[ \t\r\n]*")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
INTEGERS = re.compile(r"[0-9+\- \t\r\n]*")
ATOM = re.compile(r"""[^ \t\r\n()"';]+""")
INTEGER = re.compile(r"[+-]?[0-9]+\Z")
FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?\Z")
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
BOOLEANS = {"#t": True, "#f": False}


def read_datum(text: str) -> Datum:
    """The one datum that `text` is, white space around it allowed. Raises BadSyntax, BeyondLimit."""
    if len(text) > MAX_TEXT_BYTES:
        raise BeyondLimit(f"text of more than {MAX_TEXT_BYTES >> 20} MiB")
    reader = _Reader(text)
    datum = reader.read()
    if not reader.is_at_end():
        raise BadSyntax(f"expected one datum, and got more after it: {_glimpse(text, reader.at)}")
    return datum


class _Reader:
    """A place in the text."""

    def __init__(self, text: str) -> None:
        self.at = 0
        self._text = text
        self._atoms = 0
        self._tried_to = 0

    def is_at_end(self) -> bool:
        self._skip_white()
        return self.at == len(self._text)

    def read(self) -> Datum:
        """The next datum. Lists are kept on a stack of our own, so that depth is ours to limit."""
        root: list[Datum] = []
        stack: list[tuple[list[Datum], bool]] = [(root, False)]
        while True:
            self._skip_white()
            into, _ = stack[-1]
            before = len(into)
            match self._text[self.at : self.at + 1]:
                case "":
                    raise BadSyntax("the text ends within a datum")
                case "(":
                    self._open(stack, [], is_quote=False)
                    continue
                case "'":
                    self._open(stack, [QUOTE], is_quote=True)
                    continue
                case ")":
                    self._close(stack)
                case '"':
                    self._strings(into, many=len(stack) > 1 and not stack[-1][1])
                case _:
                    self._atoms_from(into, many=len(stack) > 1 and not stack[-1][1])
            self._count(len(stack[-1][0]) - before if stack[-1][0] is into else 0)
            while stack[-1][1] and len(stack[-1][0]) == 2:
                stack.pop()  # a quote takes one datum
            if len(stack) == 1 and root:
                return root[0]

    def _open(self, stack: list[tuple[list[Datum], bool]], begun: list[Datum], *, is_quote: bool) -> None:
        if len(stack) > MAX_DEPTH:
            raise BeyondLimit(f"lists more than {MAX_DEPTH} deep")
        self._count(1)
        stack[-1][0].append(begun)
        stack.append((begun, is_quote))
        self.at += 1

    def _close(self, stack: list[tuple[list[Datum], bool]]) -> None:
        if len(stack) == 1:
            raise BadSyntax("expected a datum, got `)`")
        if stack[-1][1]:
            raise BadSyntax("expected a datum after `'`, got `)`")
        stack.pop()
        self.at += 1

    def _strings(self, into: list[Datum], *, many: bool) -> None:
        if many and self._run_of_strings(into):
            return
        found = STRING.match(self._text, self.at)
        if found is None:
            raise BadSyntax("a string does not end")
        into.append(ESCAPE.sub(_unescape, found[1]))
        self.at = found.end()

    def _atoms_from(self, into: list[Datum], *, many: bool) -> None:
        if many and self._run_of_integers(into):
            return
        found = ATOM.match(self._text, self.at)
        if found is None:
            raise BadSyntax(f"expected a datum, got {_glimpse(self._text, self.at)}")
        into.append(_atom(found[0]))
        self.at = found.end()

    def _run_of_strings(self, into: list[Datum]) -> bool:
        """Take everything up to the next parenthesis when it is strings without escapes."""
        run = self._run()
        if run is None or "\\" in run:
            return False
        parts = run.split('"')
        # An even number of quotes, and white space between the strings: so no string holds that parenthesis.
        if len(parts) % 2 == 0 or any(gap.strip(" \t\r\n") for gap in set(parts[0::2])):
            return False
        into.extend(parts[1::2])
        self.at += len(run)
        return True

    def _run_of_integers(self, into: list[Datum]) -> bool:
        run = self._run()
        if run is None or not INTEGERS.fullmatch(run):
            return False
        words = run.split()
        if max(map(len, words)) > MAX_NUMBER_DIGITS:
            return False
        try:
            numbers = list(map(int, words))
        except ValueError:
            return False  # `+-` and the like are symbols
        into.extend(numbers)
        self.at += len(run)
        return True

    def _run(self) -> str | None:
        """The text up to the next parenthesis; None when it was tried before, so that every byte is tried once."""
        if self.at < self._tried_to:
            return None
        ends = [place for place in (self._text.find("(", self.at), self._text.find(")", self.at)) if place >= 0]
        self._tried_to = min(ends, default=len(self._text))
        return self._text[self.at : self._tried_to]

    def _count(self, atoms: int) -> None:
        self._atoms += atoms
        if self._atoms > MAX_ATOMS:
            raise BeyondLimit(f"more than {MAX_ATOMS} atoms")

    def _skip_white(self) -> None:
        found = WHITE.match(self._text, self.at)
        assert found is not None
        self.at = found.end()


def _atom(word: str) -> Datum:
    if word in BOOLEANS:
        return BOOLEANS[word]
    if len(word) > MAX_NUMBER_DIGITS:
        raise BeyondLimit(f"an atom of more than {MAX_NUMBER_DIGITS} characters")
    if INTEGER.match(word):
        return int(word)
    if FLOAT.match(word):
        return float(word)
    if word == "." or word.startswith("#"):
        raise BadSyntax(f"{word[:20]!r} is not a datum here")
    return Symbol(word)


def _unescape(found: re.Match[str]) -> str:
    try:
        return ESCAPES[found[1]]
    except KeyError:
        raise BadSyntax(f"unknown escape \\{found[1]} in a string") from None


def _glimpse(text: str, at: int) -> str:
    return repr(text[at : at + 20])
