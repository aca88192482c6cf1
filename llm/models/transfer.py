"""How far a transfer of files is, and how fast. Pure: the caller brings the time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 5.0
"""The rate is that of so long a time back."""
SAMPLE_S = 0.2


@dataclass(slots=True)
class Meter:
    """Bytes of several files, one after the other. source: where they come from now, for people."""

    size_bytes: int = 0
    source: str = ""
    _finished: int = 0
    _current: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def done_bytes(self) -> int:
        return min(self.size_bytes, self._finished + self._current)

    def told(self, done_bytes: int, now: float) -> None:
        """So much of the current file is here."""
        self._current = done_bytes
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, self.done_bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()

    def finished(self, file_bytes: int) -> None:
        """The current file is here, whole."""
        self._finished += file_bytes
        self._current = 0

    @property
    def bytes_per_s(self) -> float:
        """Lately; 0 before it can be said."""
        if len(self._samples) < 2:
            return 0.0
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return max(0.0, (after - before) / (ended - began)) if ended > began else 0.0

    @property
    def words(self) -> str:
        """For people."""
        rate = f", {self.bytes_per_s / 1e6:.1f} MB/s" if self.bytes_per_s else ""
        percent = 100 * self.done_bytes // max(1, self.size_bytes)
        done = f"{self.done_bytes / 1e6:.1f} of {self.size_bytes / 1e6:.1f} MB ({percent} %)"
        return f"{done}{rate}, from {self.source}"
