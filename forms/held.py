"""How much of one door's requests and replies this node holds at a time, all clients together. Pure.

Each client is bounded by the limit of a frame; hundreds of them are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forms.errors import Busy
from forms.form import FRAME_LIMIT

MOST_BYTES = 4 * FRAME_LIMIT
"""Two calls with the largest request and the largest reply."""


@dataclass(slots=True)
class Held:
    """All that a door holds. held_bytes: now."""

    most_bytes: int = MOST_BYTES
    held_bytes: int = 0

    def share(self) -> Share:
        """What one client has of it: nothing yet."""
        return Share(self)


@dataclass(slots=True)
class Share:
    """One client's part."""

    _of: Held
    _bytes: int = field(default=0)

    def add(self, more_bytes: int) -> None:
        """Hold so much more. Raises Busy, and holds no more, where all clients together would have too much."""
        if self._of.held_bytes + more_bytes > self._of.most_bytes:
            raise Busy(f"this node holds {self._of.held_bytes} bytes of calls and replies already; try again later")
        self._of.held_bytes += more_bytes
        self._bytes += more_bytes

    def keep(self, only_bytes: int) -> None:
        """Hold no more than that: the rest has gone."""
        self._of.held_bytes += only_bytes - self._bytes
        self._bytes = only_bytes
