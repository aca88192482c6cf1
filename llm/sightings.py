"""Remembers which models this node has found in the mesh lately, for the moments in which their host starts again.

A host that starts again says nothing of its models for a second or two. Who asks then is not told that there is no
such model, which clients take for final, but that there is no host now.
"""

from __future__ import annotations

REMEMBERED_S = 60.0
"""Longer than an agent takes to start again."""


class Sightings:
    """One asker's memory. Bounded by what was found within REMEMBERED_S."""

    def __init__(self) -> None:
        self._seen_at: dict[str, float] = {}

    def note(self, model: str, now: float) -> None:
        """Somebody offers `model`."""
        self._seen_at.pop(model, None)
        self._seen_at[model] = now  # the oldest comes first
        while now - next(iter(self._seen_at.values())) > REMEMBERED_S:
            del self._seen_at[next(iter(self._seen_at))]

    def is_recent(self, model: str, now: float) -> bool:
        """Whether somebody offered `model` a while ago."""
        return now - self._seen_at.get(model, float("-inf")) <= REMEMBERED_S
