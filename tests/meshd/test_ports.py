from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from meshd.ports import (
    Door,
    NoSuchAddress,
    PortHolder,
    PortKind,
    PortTaken,
    bind_error,
    free_port_after,
    holder,
    naming_the_holder,
)

pytestmark = pytest.mark.live

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@contextmanager
def taken(kind: PortKind, host: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, KINDS[kind]) as other:
        try:
            other.bind((host, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {host}: {error}")
        if kind == "tcp":
            other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_holder_is_found(kind: PortKind, host: str) -> None:
    with taken(kind, host) as port:
        assert holder(port, kind) == PortHolder(psutil.Process().name(), os.getpid(), tuple(psutil.Process().cmdline()))


def test_another_process_is_named() -> None:
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); sys.stdin.read()"
    )
    command = (sys.executable, "-u", "-c", program)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        found = holder(int(other.stdout.readline()), "tcp")
        assert found is not None
        assert (found.pid, found.command) == (other.pid, command)
        other.stdin.close()


def test_tcp_and_udp_ports_are_apart() -> None:
    with taken("udp") as port:
        assert holder(port, "tcp") is None


def test_a_connection_does_not_hold_the_port_it_leaves_from() -> None:
    with taken("tcp") as port, socket.create_connection(("127.0.0.1", port)) as leaving:
        assert holder(leaving.getsockname()[1], "tcp") is None


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to have a socket that another user may not see")
def test_a_holder_that_may_not_be_seen_is_still_a_holder() -> None:
    nobody = 65534
    asking, answering = socket.socketpair()
    looker = os.fork()  # before the port is taken, or it would hold the port as well
    if looker == 0:
        os.setuid(nobody)
        port = int(answering.recv(16))
        answering.send(repr(holder(port, "tcp")).encode())
        os._exit(0)
    with taken("tcp") as port, asking, answering:
        asking.send(str(port).encode())
        assert asking.recv(1000).decode() == repr(PortHolder(None, None, None))
    os.waitpid(looker, 0)


def test_the_error_names_the_holder_and_the_way_out() -> None:
    door = Door("tcp", "127.0.0.1", 9337, "--port {port}")
    error = PortTaken(door, PortHolder("mesh-llm", 123, ("mesh-llm",)), 9338)
    assert str(error) == ("port 9337 is held by `mesh-llm` (pid 123); stop it or choose another: meshd --port 9338")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "held by another process;"),
        (PortHolder(None, None, None), "held by a process that only root may see;"),
        (PortHolder(None, 7, None), "held by `unknown` (pid 7);"),
    ],
)
def test_the_error_does_with_what_is_known(found: PortHolder | None, words: str) -> None:
    assert words in str(PortTaken(Door("tcp", "::", 1, "--port {port}"), found, 2))


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_bind_that_meets_another_says_who(kind: PortKind) -> None:
    with taken(kind) as port, socket.socket(socket.AF_INET, KINDS[kind]) as ours:
        door = Door(kind, "127.0.0.1", port, "--bind 127.0.0.1:{port}")
        named = rf"port {port} is held by .* \(pid {os.getpid()}\)"
        with pytest.raises(PortTaken, match=named) as caught, naming_the_holder(door):
            ours.bind(("127.0.0.1", port))
        assert "meshd --bind 127.0.0.1:" in caught.value.advice


def test_an_address_of_another_host_is_named() -> None:
    door = Door("tcp", "192.0.2.1", 9337, "--port {port}")
    with (
        pytest.raises(NoSuchAddress, match=r"no address 192\.0\.2\.1"),
        naming_the_holder(door),
        socket.socket() as ours,
    ):
        ours.bind(("192.0.2.1", 0))


def test_other_errors_of_a_bind_pass_unchanged() -> None:
    door = Door("tcp", "127.0.0.1", 80, "--port {port}")
    with pytest.raises(PermissionError, match="denied"), naming_the_holder(door):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(("held", "wanted"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::"), ("::1", "::")])
def test_a_taken_port_cannot_be_bound(kind: PortKind, held: str, wanted: str) -> None:
    with taken(kind, held) as port:
        error = bind_error(Door(kind, wanted, port, "--port {port}"))
        assert error is not None and error.errno == errno.EADDRINUSE
    assert bind_error(Door(kind, wanted, port, "--port {port}")) is None


def test_the_proposed_port_is_free_and_above() -> None:
    with taken("tcp") as port:
        door = Door("tcp", "127.0.0.1", port, "--port {port}")
        proposed = free_port_after(door)
        assert proposed == 0 or proposed > port
        assert bind_error(Door("tcp", "127.0.0.1", proposed, door.option)) is None


def test_above_the_highest_port_any_is_proposed() -> None:
    assert free_port_after(Door("tcp", "127.0.0.1", 65535, "--port {port}")) == 0
