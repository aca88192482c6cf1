"""A port to open later, by number: for servers that have to be told one, or come back where they were."""

from __future__ import annotations

import random
import socket
from pathlib import Path

GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
MOST = 10_000


def free_port() -> int:
    """A TCP port of loopback that nobody has.

    From below those that the system gives to whoever asks for any: of them one that is let go for a moment may be
    another process's by the time it is opened again.
    """
    lowest = int(GIVEN_OUT.read_text().split()[0]) if GIVEN_OUT.exists() else 32768
    dice = random.SystemRandom()
    while lowest > MOST:
        port = dice.randrange(max(MOST, lowest - MOST), lowest)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
