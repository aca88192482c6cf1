"""Network namespaces as hosts: made and removed with iproute2, as root, and never left behind.

A namespace's name tells which process made it, so what a killed run left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

_COMMAND_S = 60.0
_CLONE_NEWNET = 0x40000000
_NAMES = re.compile(r"meshd-(\d+)-\d+")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A host with its own network. host: its IPv4 address on `eth0`, whose network is a /24.

    port: where its cable ends in a switch, if it does: the switch's namespace and device.
    """

    name: str
    host: str
    port: tuple[str, str] | None = None

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Make this thread's new sockets belong to the namespace. Do not await inside."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.name}").open() as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def socket(self, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """An IPv4 socket of this host, not blocking."""
        with self.entered():
            opened = socket.socket(socket.AF_INET, kind, protocol)
        opened.setblocking(False)
        return opened

    def command(self, *argv: str) -> tuple[str, ...]:
        """The command line that runs `argv` on this host. Its files are the machine's own."""
        return ("ip", "netns", "exec", self.name, *argv)

    def ip(self, *arguments: str) -> None:
        """Run iproute2's `ip` on this host."""
        ip("-n", self.name, *arguments)

    def unplug(self) -> None:
        """Pull its cable out of the switch."""
        self._set_port("down")

    def plug_in(self) -> None:
        """Undo `unplug`."""
        self._set_port("up")

    def _set_port(self, state: str) -> None:
        assert self.port is not None, "its cable ends in no switch"
        switch, device = self.port
        ip("-n", switch, "link", "set", device, state)

    def count(self, protocol: str, counter: str) -> int:
        """One of the kernel's counters of this host, as /proc/net/snmp names it: `Tcp`, `InCsumErrors`."""
        with self.entered():
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith(f"{protocol}:"))
        return int(values[names.index(counter)])

    def configure(self) -> None:
        """Give `eth0` its address and bring the host up; multicast leaves through `eth0` too."""
        self.ip("address", "add", f"{self.host}/24", "broadcast", "+", "dev", "eth0")
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "add", "224.0.0.0/4", "dev", "eth0")


@cache
def why_not() -> str | None:
    """Why namespaces cannot be made here; None when they can. Found out by making one."""
    if shutil.which("ip") is None:
        return "iproute2 is missing: apt-get install iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with host("10.77.0.1") as first:
            first.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
            first.configure()
    except (OSError, CannotMake) as error:
        return f"this kernel or container makes no network namespaces: {error}"
    return None


class CannotMake(RuntimeError):
    """iproute2 refused; the message is its own."""


@contextlib.contextmanager
def host(address: str) -> Iterator[Namespace]:
    """A namespace without a network card. Removed at the end, with every process that is still in it."""
    namespace = Namespace(f"meshd-{os.getpid()}-{next(_numbers)}", address)
    ip("netns", "add", namespace.name)
    try:
        yield namespace
    finally:
        _remove(namespace.name)


@contextlib.contextmanager
def switched(count: int) -> Iterator[list[Namespace]]:
    """Hosts 10.77.0.1 and up on one Ethernet segment, whose bridge has a namespace of its own."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(host(""))
        switch.ip("link", "add", "segment", "type", "bridge", "mcast_snooping", "0")
        switch.ip("link", "set", "segment", "up")
        hosts = []
        for number in range(1, count + 1):
            port = f"port{number}"
            bare = stack.enter_context(host(f"10.77.0.{number}"))
            switch.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", bare.name)
            switch.ip("link", "set", port, "master", "segment", "up")
            bare.configure()
            hosts.append(replace(bare, port=(switch.name, port)))
        yield hosts


@contextlib.contextmanager
def routed(mtu: int) -> Iterator[tuple[Namespace, Namespace]]:
    """10.77.0.1 and 10.78.0.1 with a router between their segments; the second's carries `mtu` bytes a packet."""
    with host("10.77.0.1") as first, host("10.78.0.1") as second, host("") as router:
        for number, namespace in ((0, first), (1, second)):
            device, gateway = f"port{number}", f"{namespace.host.rpartition('.')[0]}.254"
            router.ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", namespace.name)
            router.ip("address", "add", f"{gateway}/24", "dev", device)
            router.ip("link", "set", device, "up")
            namespace.configure()
            namespace.ip("route", "add", "default", "via", gateway)
        router.ip("link", "set", "port1", "mtu", str(mtu))
        second.ip("link", "set", "eth0", "mtu", str(mtu))
        with router.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        yield first, second


def remove_stale() -> list[str]:
    """Remove the namespaces of test runs that no longer live; say which."""
    made = Path("/run/netns")
    names = [path.name for path in sorted(made.iterdir()) if _is_stale(path.name)] if made.is_dir() else []
    return [name for name in names if _is_removed_by_us(name)]


def _is_removed_by_us(name: str) -> bool:
    """Another run may sweep at the same time."""
    try:
        _remove(name)
    except CannotMake:
        if Path(f"/run/netns/{name}").exists():
            raise
        return False
    return True


def _is_stale(name: str) -> bool:
    made_by = _NAMES.fullmatch(name)
    return made_by is not None and not Path(f"/proc/{made_by[1]}").exists()


def _remove(name: str) -> None:
    try:
        for process in ip("netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
    finally:
        ip("netns", "delete", name)


def ip(*arguments: str) -> str:
    """Run `ip` and return what it printed. Raises CannotMake with its complaint."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    if done.returncode:
        raise CannotMake(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _set_namespace(descriptor: int) -> None:
    """setns(2) for the calling thread. os.setns is younger than Python 3.11."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
