"""Hosts made of namespaces reach each other, hear each other's multicast, and vanish."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns import namespaces
from tests.netns.namespaces import CannotMake, Namespace, host, ip, remove_stale, switched
from tests.netns.probes import (
    PATIENCE_S,
    multicast_listener,
    ping_s,
    send_multicast,
    tcp_connection,
    tcp_echo,
    tcp_round_trip_s,
    udp_echo,
    udp_round_trips,
)

pytestmark = pytest.mark.usefixtures("can_make_namespaces")


def existing() -> set[str]:
    """Of this process; others test beside it."""
    return {path.name for path in Path("/run/netns").glob(f"meshd-{os.getpid()}-*")}


async def test_hosts_of_a_segment_reach_each_other(segment: list[Namespace]) -> None:
    one, two, three = segment
    async with udp_echo(two), tcp_echo(three), tcp_connection(one, three) as connected:
        await ping_s(one, two)
        await ping_s(three, one)
        assert len(await udp_round_trips(one, two, 5, PATIENCE_S)) == 5
        await tcp_round_trip_s(connected, os.urandom(300_000))


async def test_multicast_reaches_every_host_of_the_segment(segment: list[Namespace]) -> None:
    one, two, three = segment
    with multicast_listener(two) as second, multicast_listener(three) as third:
        send_multicast(one, b"who is there?")
        for listening in (second, third):
            async with asyncio.timeout(PATIENCE_S):
                assert await asyncio.get_running_loop().sock_recv(listening, 100) == b"who is there?"


async def test_segments_do_not_hear_each_other(segment: list[Namespace]) -> None:
    with switched(1) as (elsewhere,), multicast_listener(elsewhere) as listening, pytest.raises(TimeoutError):
        send_multicast(segment[0], b"who is there?")
        async with asyncio.timeout(0.2):
            await asyncio.get_running_loop().sock_recv(listening, 100)


def test_a_command_runs_on_its_host(segment: list[Namespace]) -> None:
    program = "import socket; s = socket.create_server(('10.77.0.2', 0)); print(s.getsockname()[0])"
    command = segment[1].command(sys.executable, "-c", program)

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout == "10.77.0.2\n"


def test_leaving_a_namespace_brings_the_thread_home() -> None:
    home = Path("/proc/thread-self/ns/net").readlink()
    with host("10.77.0.1") as namespace:
        with pytest.raises(ZeroDivisionError), namespace.entered():
            assert Path("/proc/thread-self/ns/net").readlink() != home
            _ = 1 / 0
        assert Path("/proc/thread-self/ns/net").readlink() == home


def test_a_failing_test_leaves_no_namespace_and_no_process() -> None:
    before = existing()
    with pytest.raises(ZeroDivisionError), switched(2) as hosts:
        sleeper = subprocess.Popen(hosts[0].command("sleep", "600"))
        assert len(existing() - before) == 3
        while str(sleeper.pid) not in ip("netns", "pids", hosts[0].name).split():
            assert sleeper.poll() is None
        _ = 1 / 0
    assert existing() == before
    assert sleeper.wait(PATIENCE_S) == -9


def test_what_a_killed_run_left_is_removed_and_a_living_one_keeps_its_own(segment: list[Namespace]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(PATIENCE_S)
    left = f"meshd-{gone.pid}-1"
    ip("netns", "add", left)

    remove_stale()
    assert not Path("/run/netns", left).exists()
    assert {namespace.name for namespace in segment} <= existing()


def test_a_refusal_of_the_kernel_is_told() -> None:
    with host("10.77.0.1") as namespace, pytest.raises(CannotMake, match="no-such-kind"):
        namespace.ip("link", "add", "eth0", "type", "no-such-kind")


def test_without_iproute2_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert namespaces.why_not.__wrapped__() == "iproute2 is missing: apt-get install iproute2"


def test_sockets_of_a_host_do_not_see_the_machine(segment: list[Namespace]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours, segment[0].socket(socket.SOCK_STREAM) as theirs:
        theirs.setblocking(True)
        with pytest.raises(ConnectionRefusedError):
            theirs.connect(ours.getsockname())
