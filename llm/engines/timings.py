"""Reads how long an answer took out of its end, as it passes: llama-server says so in its last words."""

from __future__ import annotations

import json
import re

from llm.engines.comparison import Sample

TIMINGS = re.compile(rb'"timings":\s*(\{[^{}]*\})')
KEPT_BYTES = 2048


class TimingsReader:
    """is_alone: whether no other answer was decoded beside it.  cpu_s: what the engine's CPUs had worked when it began.

    Where that is known, an answer's seconds are those in which the engine's CPUs worked for it, not those of the
    clock: what else the host does takes its time, and much less of its work.
    """

    def __init__(self, *, is_alone: bool, cpu_s: float | None = None) -> None:
        self.is_alone = is_alone
        self._cpu_s = cpu_s
        self._end = b""

    def feed(self, chunk: bytes) -> None:
        self._end = (self._end + chunk)[-KEPT_BYTES:]

    def told(self, cpu_s: float | None = None) -> Sample | None:
        """What it took; None where it does not say. cpu_s: of the engine's CPUs by now."""
        found = TIMINGS.findall(self._end)
        if not found:
            return None
        try:
            told = json.loads(found[-1])
            decoding_ms, reading_ms = float(told["predicted_ms"]), float(told.get("prompt_ms", 0.0))
            counts = [int(told.get(key, 0)) for key in ("predicted_n", "draft_n", "draft_n_accepted")]
        except (ValueError, KeyError, TypeError):
            return None
        seconds = decoding_ms / 1000
        if self._cpu_s is not None:
            # Of its work that share which decoding has of its time; none where it ended meanwhile.
            worked_s = cpu_s - self._cpu_s if cpu_s is not None else 0.0
            seconds = worked_s * decoding_ms / max(1e-3, decoding_ms + reading_ms)
        return Sample(counts[0], seconds, counts[1], counts[2])
