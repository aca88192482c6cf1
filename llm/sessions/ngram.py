"""Proposes what followed when the same words came before, and rests where that was wrong lately. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_MATCH = 4
SHORTEST_MATCH = 2
LOOK_BACK = 4096
"""Tokens searched: further back costs more than it finds."""
LONGEST_REST = 64


def propose(tokens: Sequence[int], count: int) -> list[int]:
    """Up to `count` tokens that followed the latest earlier place that ends as `tokens` does; none without one."""
    recent = list(tokens[-LOOK_BACK:])
    for length in range(min(LONGEST_MATCH, len(recent) - 1), SHORTEST_MATCH - 1, -1):
        ending = recent[-length:]
        for start in range(len(recent) - length - 1, -1, -1):
            if recent[start] == ending[0] and recent[start : start + length] == ending:
                return recent[start + length : start + length + count]
    return []


@dataclass(slots=True)
class Appetite:
    """How much to draft: more while it is accepted, after refused blocks not at all for a while."""

    most: int = 8
    count: int = 4
    rest: int = 0
    _next_rest: int = 1

    def wanted(self) -> int:
        """Tokens to draft for the block at hand; 0 to decode alone."""
        if self.rest:
            self.rest -= 1
            return 0
        return self.count

    def note(self, drafted: int, accepted: int) -> None:
        """A block was verified."""
        if not drafted:
            return
        if accepted == drafted:
            self.count, self._next_rest = min(self.most, self.count + 2), 1
        elif accepted:
            self.count, self._next_rest = max(1, accepted), 1
        else:
            self.rest, self._next_rest = self._next_rest, min(LONGEST_REST, 2 * self._next_rest)
            self.count = max(1, self.count // 2)
