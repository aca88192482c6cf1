"""How long the CPUs have worked for a child process, all its threads together."""

from __future__ import annotations

import time


def cpu_seconds(pid: int) -> float | None:
    """What `pid` has computed so far; None where the system does not say: elsewhere than Linux, or it has ended.

    To the nanosecond, which answers of a few milliseconds need: /proc counts in hundredths of a second.
    """
    try:
        # clock_getcpuclockid(3): as glibc makes it.
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, AttributeError):
        return None
