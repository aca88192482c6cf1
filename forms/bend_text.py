"""Takes `(bend CALL …)` apart without reading the calls, which may be long. Pure."""

from __future__ import annotations

import re

from forms.errors import BadSyntax
from forms.text_framing import TextMeasure

BEND = re.compile(rb"\s*\(\s*bend(?=[\s()\"'])\s*")
WHITE = re.compile(rb"\s*")
MOST_CALLS = 4096
PIECE_BYTES = 4096


def is_bend(request: bytes) -> bool:
    """Whether a datum asks for the place to be chosen."""
    return BEND.match(request) is not None


def calls_in(request: bytes) -> list[bytes]:
    """The calls of a `(bend CALL …)`, as they stand there. Raises BadSyntax, BeyondLimit."""
    found = BEND.match(request)
    assert found is not None, "ask `is_bend` first"
    calls: list[bytes] = []
    at = found.end()
    while request[at : at + 1] != b")":
        if request[at : at + 1] != b"(" or len(calls) == MOST_CALLS:
            raise BadSyntax(f"bend: expected form calls, each a list that begins with a name, at most {MOST_CALLS}")
        end = _end(request, at)
        calls.append(request[at:end])
        white = WHITE.match(request, end)
        assert white is not None
        at = white.end()
    return calls


def _end(request: bytes, at: int) -> int:
    """Where the datum that begins at `at` ends; looked for in pieces, so that many short ones cost no more than one."""
    measure, seen, step = TextMeasure(), bytearray(), PIECE_BYTES
    while (length := measure.advance(seen)) is None:
        if at + len(seen) >= len(request):
            raise BadSyntax("bend: a call does not end")
        seen += request[at + len(seen) : at + len(seen) + step]
        step *= 2
    return at + length
