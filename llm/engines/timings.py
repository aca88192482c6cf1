"""Reads how long an answer took out of its end, as it passes: llama-server says so in its last words."""

from __future__ import annotations

import json
import re

from llm.engines.trial import Sample

TIMINGS = re.compile(rb'"timings":\s*(\{[^{}]*\})')
KEPT_BYTES = 2048


class TimingsReader:
    """is_alone: whether no other answer was decoded beside it."""

    def __init__(self, *, is_alone: bool) -> None:
        self.is_alone = is_alone
        self._end = b""

    def feed(self, chunk: bytes) -> None:
        self._end = (self._end + chunk)[-KEPT_BYTES:]

    def told(self) -> Sample | None:
        """What it says that it took; None where it does not."""
        found = TIMINGS.findall(self._end)
        if not found:
            return None
        try:
            told = json.loads(found[-1])
            seconds = float(told["predicted_ms"]) / 1000
            counts = [int(told.get(key, 0)) for key in ("predicted_n", "draft_n", "draft_n_accepted")]
        except (ValueError, KeyError, TypeError):
            return None
        return Sample(counts[0], seconds, counts[1], counts[2])
