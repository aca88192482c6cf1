"""Small programs to start as children, and ways to await what processes do."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from pathlib import Path

SLEEPS = "import signal; print('begun'); signal.pause()"
IGNORES_SIGTERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun')\nwhile True: signal.pause()"
)
HAS_A_CHILD_OF_ITS_OWN = (
    "import subprocess, signal\n"
    "print('grandchild', subprocess.Popen(['sleep', '600']).pid)\n"
    "print('begun')\nsignal.pause()"
)


async def has_begun(log: Path) -> None:
    """Wait until the program that writes `log` has printed `begun`."""
    await asyncio.to_thread(_look_until_begun, log)


def _look_until_begun(log: Path, patience_s: float = 60.0) -> None:
    give_up = time.monotonic() + patience_s
    while not log.exists() or "begun" not in log.read_text():  # a file tells nobody that it grew
        assert time.monotonic() < give_up, f"{log} never said that its program has begun"
        time.sleep(0.005)


def grandchild(log: Path) -> int:
    """The pid that HAS_A_CHILD_OF_ITS_OWN printed."""
    return int(log.read_text().split("grandchild ")[1].split()[0])


def is_gone(pid: int, patience_s: float) -> bool:
    """Whether the process ends within `patience_s`; one that nobody has reaped yet counts as gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], patience_s)[0])
    finally:
        os.close(watched)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def open_descriptors(pid: int) -> dict[str, str]:
    """What each open descriptor of the process leads to."""
    return {entry.name: str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
