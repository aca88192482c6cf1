"""How long a call would wait: what is before it on one worker that takes its calls in order. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backlog:
    """Calls that were begun and are not answered, each with what it should take. lanes: how many run at once."""

    lanes: int = 1
    _calls: dict[int, float] = field(default_factory=dict)
    _next: int = 0
    _first_since: float = 0.0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, seconds: float, now: float) -> int:
        """A call has come that should take `seconds`; its number."""
        if not self._calls:
            self._first_since = now
        self._next += 1
        self._calls[self._next] = seconds
        return self._next

    def remove(self, number: int, now: float) -> None:
        """It is answered, or nobody wants it any more."""
        if next(iter(self._calls), None) == number:
            self._first_since = now
        self._calls.pop(number, None)

    def seconds(self, now: float) -> float:
        """Until a call that came now would begin."""
        if not self._calls:
            return 0.0
        first = next(iter(self._calls.values()))
        others = sum(self._calls.values()) - first
        return (max(0.0, first - (now - self._first_since)) + others) / self.lanes
