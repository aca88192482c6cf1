"""Whether a port can be had, who holds it, and the error that says so.

Blocking: call from a thread where a loop runs.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import psutil

PortKind = Literal["tcp", "udp"]

PORTS_TO_TRY = 64


@dataclass(frozen=True, slots=True)
class Door:
    """A port that meshd listens on.

    host: an IP literal, `::` for every address of both families.  option: how to choose another port, with
    `{port}` in it: `--port {port}`.
    """

    kind: PortKind
    host: str
    port: int
    option: str


@dataclass(frozen=True, slots=True)
class PortHolder:
    """The process on a port. All None where this user may not see whose socket it is."""

    name: str | None
    pid: int | None
    command: tuple[str, ...] | None

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that only root may see"
        return f"`{self.name or 'unknown'}` (pid {self.pid})"


class PortTaken(Exception):
    """A port that meshd needs is in use; the message says by whom and what to do."""

    def __init__(self, door: Door, holder: PortHolder | None, free_port: int) -> None:
        """free_port: one to propose instead."""
        self.door = door
        self.holder = holder
        self.problem = f"port {door.port} is held by {holder or 'another process'}"
        self.advice = f"stop it or choose another: meshd {door.option.format(port=free_port)}"
        super().__init__(f"{self.problem}; {self.advice}")


class NoSuchAddress(Exception):
    """This host has not got the address that a door shall be on."""

    def __init__(self, door: Door) -> None:
        super().__init__(f"this host has no address {door.host} to listen on; `ip address` shows those that it has")


@contextlib.contextmanager
def naming_the_holder(door: Door) -> Iterator[None]:
    """Turn the "address in use" of a bind inside the block into PortTaken, and a foreign address into NoSuchAddress."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise NoSuchAddress(door) from error
        if error.errno != errno.EADDRINUSE:
            raise
        raise port_taken(door) from error


def port_taken(door: Door) -> PortTaken:
    """The error for a door that is known to be in use, with its holder and a free port looked up."""
    return PortTaken(door, holder(door.port, door.kind), free_port_after(door))


def holder(port: int, kind: PortKind) -> PortHolder | None:
    """The process that listens on `port` (UDP: is bound to it), on whatever address; None when none is seen.

    Reads the socket tables of the whole system: tens of milliseconds on a busy host.
    """
    pids = [
        pid
        for pid, entry in _sockets(kind)
        if entry.laddr and entry.laddr.port == port and (kind == "udp" or entry.status == psutil.CONN_LISTEN)
    ]
    if not pids:
        return None
    return _describe(next((pid for pid in pids if pid is not None), None))


def _sockets(kind: PortKind) -> Iterator[tuple[int | None, psutil._ntuples.sconn]]:
    try:
        yield from ((entry.pid, entry) for entry in psutil.net_connections(kind))
    except psutil.AccessDenied:  # macOS shows the whole table to root only, and each process's own to its user
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                yield from ((process.pid, entry) for entry in process.net_connections(kind))


def _describe(pid: int | None) -> PortHolder:
    if pid is None:
        return PortHolder(None, None, None)
    process = psutil.Process(pid)
    try:
        return PortHolder(process.name(), pid, tuple(process.cmdline()))
    except psutil.Error:
        return PortHolder(None, pid, None)


def bind_error(door: Door) -> OSError | None:
    """Bind to the door and let go again; the error where that fails."""
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM if door.kind == "tcp" else socket.SOCK_DGRAM) as trial:
            if family == socket.AF_INET6 and door.host == "::":
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if door.kind == "tcp":  # as servers do: connections that linger in TIME_WAIT are no hindrance
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((door.host, door.port))
            if door.kind == "tcp":  # with SO_REUSEADDR two may bind, one may listen
                trial.listen(1)
    except OSError as error:
        return error
    return None


def free_port_after(door: Door) -> int:
    """The next port above the door's that can be had on its address; 0, "any", when none is near."""
    ports = range(door.port + 1, min(door.port + 1 + PORTS_TO_TRY, 65536))
    others = (Door(door.kind, door.host, port, door.option) for port in ports)
    return next((other.port for other in others if bind_error(other) is None), 0)
