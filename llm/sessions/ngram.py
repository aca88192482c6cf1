"""Proposes what followed when the same words came before. Pure; whether that pays is `drafting`'s."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_MATCH = 4
SHORTEST_MATCH = 2
LOOK_BACK = 4096
"""Tokens searched: further back costs more than it finds."""


def propose(tokens: Sequence[int], count: int) -> list[int]:
    """Up to `count` tokens that followed the latest earlier place that ends as `tokens` does; none without one."""
    recent = list(tokens[-LOOK_BACK:])
    for length in range(min(LONGEST_MATCH, len(recent) - 1), SHORTEST_MATCH - 1, -1):
        ending = recent[-length:]
        for start in range(len(recent) - length - 1, -1, -1):
            if recent[start] == ending[0] and recent[start : start + length] == ending:
                return recent[start + length : start + length + count]
    return []
