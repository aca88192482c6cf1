"""Whether a `ggml-rpc-server` has hung, told from outside: it talks with one client at a time, so nobody can ask it.

A server that lives reads what it is sent, or computes; one that does neither for many looks in a row has hung. What is
unread and how long it ran is read from Linux's /proc; elsewhere nothing is known, and nothing is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from transport.interface import Address

LOOK_PAUSE_S = 2.0
LOOKS = 10
"""In a row, not so many seconds: a host that was asleep in between has seen one."""

PROC = Path("/proc")
LISTENS = "0A"
STOPPED = ("T", "t")


@dataclass(frozen=True, slots=True)
class Look:
    """unread_bytes: sent to the server, and not read by it.  ran_ns: on a CPU, all threads, since its start."""

    unread_bytes: int
    ran_ns: int
    is_stopped: bool = False

    @property
    def owes_something(self) -> bool:
        """Whether it should be doing something."""
        return self.unread_bytes > 0 or self.is_stopped


class Pulse:
    """Counts the looks in which a server owed something and had not run since the one before."""

    def __init__(self) -> None:
        self._last: Look | None = None
        self._still = 0

    def is_hung(self, look: Look) -> bool:
        """Whether that was one look too many."""
        stands = self._last is not None and look.owes_something and look.ran_ns == self._last.ran_ns
        self._still = self._still + 1 if stands else 0
        self._last = look
        return self._still >= LOOKS


async def hung(pid: int, address: Address) -> None:
    """Return once the server has hung; for ever where nothing can be known of it."""
    pulse = Pulse()
    while True:
        await asyncio.sleep(LOOK_PAUSE_S)
        look = await asyncio.to_thread(look_at, pid, address)
        if look is not None and pulse.is_hung(look):
            return


def look_at(pid: int, address: Address) -> Look | None:
    """How the process is that listens at `address`; None where /proc does not say."""
    try:
        return Look(_unread_bytes(address.port), _ran_ns(pid), _state(pid) in STOPPED)
    except (OSError, ValueError, IndexError):
        return None  # it has ended, which is told elsewhere, or this is no Linux


def _unread_bytes(port: int) -> int:
    """In the queues of connections whose end here has that port. Columns as in Linux's Documentation, proc_net_tcp."""
    local = f":{port:04X}"
    unread = 0
    for line in (PROC / "net" / "tcp").read_text().splitlines()[1:]:
        _, at, _, state, queues, *_ = line.split()
        if at.endswith(local) and state != LISTENS:
            unread += int(queues.partition(":")[2], 16)
    return unread


def _ran_ns(pid: int) -> int:
    """The first number of schedstat, of all threads; one that ends takes its own with it, which is a change too."""
    ran = 0
    for task in (PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            ran += int((task / "schedstat").read_text().split()[0])
    return ran


def _state(pid: int) -> str:
    """Behind the name, which is in parentheses and may hold any."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
