"""When a dated and signed statement counts: how far clocks may differ, and spans of time in words."""

from __future__ import annotations

CLOCK_TOLERANCE_S = 600


def span_text(seconds: float) -> str:
    """A span of time in its largest fitting unit, for people: "3 h"."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"
