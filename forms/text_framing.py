"""Finds where one datum ends while its bytes arrive, without reading it. Pure.

Each byte is looked at a few times at most. In long stretches without a parenthesis quotes are counted; elsewhere
strings are taken out by the regular expression engine, and only in the piece where the outermost list closes is the
very place looked for.
"""

from __future__ import annotations

import re

from forms.errors import BadSyntax, BeyondLimit
from forms.reader import MAX_DEPTH, MAX_TEXT_BYTES

WHITE = b" \t\r\n"
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
MARK = re.compile(rb'[()]|"[^"\\]*(?:\\.[^"\\]*)*"|"', re.DOTALL)
STRING_END = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SKIMMED = 8
"""Parentheses that are looked for one by one: a call of one long list has four."""
OPEN, BACKSLASH = b"(\\"
FIRST_NOT_WHITE = re.compile(rb"[^ \t\r\n]")


class TextMeasure:
    """A measure for a datum that begins with `(`, which the buffer starts with."""

    def __init__(self, limit_bytes: int = MAX_TEXT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._depth = 0
        self._seen = 0
        self._in_string = False

    def advance(self, received: bytearray) -> int | None:
        """Length of the datum once its last byte is there, else None; call it with the same buffer, grown.

        Raises BeyondLimit for a datum that is too long or too deep, BadSyntax for one that can't become any.
        """
        if len(received) > self._limit_bytes:
            raise BeyondLimit(f"text of more than {self._limit_bytes} bytes")
        if (end := self._skim(received)) is not None or self._seen == len(received):
            return end
        if self._in_string and not self._leave_string(received):
            return None
        piece = bytes(memoryview(received)[self._seen :])
        bare = STRING.sub(b"", piece)
        if b'"' not in bare and bare.count(b")") < self._depth:
            self._open(bare.count(b"(") - bare.count(b")"))
            self._seen = len(received)
            return None
        return self._walk(received)

    def _skim(self, received: bytearray) -> int | None:
        """Pass a few parentheses and the long stretches without any between them, where quotes need only be counted.

        The end, when it is met; else `_seen` is where somebody has to look closer, or all that there is.
        """
        for _ in range(SKIMMED):
            at = min((found for mark in b"()\\" if (found := received.find(mark, self._seen)) >= 0), default=-1)
            end = at if at >= 0 else len(received)
            self._in_string ^= received.count(b'"', self._seen, end) % 2 == 1
            self._seen = end
            if at < 0 or received[at] == BACKSLASH:
                break
            self._seen += 1
            if not self._in_string:
                self._open(1 if received[at] == OPEN else -1)
                if self._depth <= 0:
                    return self._seen
        return None

    def _leave_string(self, received: bytearray) -> bool:
        end = STRING_END.match(received, self._seen)
        if end is None:
            # An escape may be cut in two: look at its backslash again.
            self._seen = max(self._seen, len(received) - _trailing_backslashes(received) % 2)
            return False
        self._seen, self._in_string = end.end(), False
        return True

    def _walk(self, received: bytearray) -> int | None:
        """Look at every parenthesis from here on."""
        for mark in MARK.finditer(received, self._seen):
            match mark[0]:
                case b"(":
                    self._open(1)
                case b")":
                    self._depth -= 1
                    if self._depth <= 0:
                        return mark.end()
                case b'"':
                    self._in_string, self._seen = True, mark.end()
                    self._leave_string(received)
                    return None
        self._seen = len(received)
        return None

    def _open(self, more: int) -> None:
        self._depth += more
        if self._depth > MAX_DEPTH:
            raise BeyondLimit(f"lists more than {MAX_DEPTH} deep")


def _trailing_backslashes(received: bytearray) -> int:
    return len(received) - len(received.rstrip(b"\\"))


def skip_white(received: bytearray) -> None:
    """Take white space from the front."""
    found = FIRST_NOT_WHITE.search(received)
    del received[: found.start() if found else len(received)]


def decode_text(datum: bytes) -> str:
    """UTF-8. Raises BadSyntax."""
    try:
        return datum.decode()
    except UnicodeDecodeError as error:
        raise BadSyntax(f"the text is not UTF-8 at byte {error.start}") from error
