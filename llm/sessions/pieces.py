"""Makes text of tokens as they come: bytes of an unfinished character wait for the rest. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Pieces:
    """The text of one answer. stops: it ends before the first of these words; what may begin one is held back."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.is_stopped = False

    def feed(self, piece: bytes) -> str:
        """The text that is certain now."""
        self._held += self._decoder.decode(piece)
        return self._release(keeps=True)

    def end(self) -> str:
        """What was held back; an unfinished character becomes U+FFFD."""
        self._held += self._decoder.decode(b"", final=True)
        return self._release(keeps=False)

    def _release(self, *, keeps: bool) -> str:
        if self.is_stopped:
            return ""
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.is_stopped = True
            said, self._held = self._held[: min(places)], ""
            return said
        keep = max((_beginning(self._held, stop) for stop in self._stops), default=0) if keeps else 0
        said, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return said


def _beginning(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins."""
    return next(
        (length for length in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-length:])), 0
    )
