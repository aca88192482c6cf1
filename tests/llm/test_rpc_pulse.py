"""An RPC server that neither reads nor runs has hung; one that is idle, or computes, has not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable

import pytest

from llm.engines.rpc_pulse import LOOKS, Look, Pulse, look_at
from transport.interface import Address

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is known of a process's queues")


def verdicts(looks: Iterable[Look]) -> list[bool]:
    pulse = Pulse()
    return [pulse.is_hung(look) for look in looks]


def test_one_that_reads_nothing_and_does_not_run_has_hung() -> None:
    assert verdicts([Look(24, 1000)] * (LOOKS + 1)) == [False] * LOOKS + [True]


def test_one_that_is_stopped_has_hung_also_while_it_is_asked_nothing() -> None:
    assert verdicts([Look(0, 1000, is_stopped=True)] * (LOOKS + 1))[-1]


def test_one_that_is_idle_has_not() -> None:
    assert not any(verdicts([Look(0, 1000)] * 5 * LOOKS))


def test_one_that_computes_while_more_waits_has_not() -> None:
    assert not any(verdicts(Look(24, 1000 + number) for number in range(5 * LOOKS)))


def test_a_pause_is_forgiven_once_it_runs_again() -> None:
    pause = [Look(24, 1000)] * LOOKS
    assert not any(verdicts([*pause, Look(24, 2000), *[Look(24, 2000)] * (LOOKS - 1), Look(0, 2000)]))


@pytest.mark.live
@on_linux
def test_what_was_sent_and_not_read_is_seen_and_what_waits_to_be_accepted_is_not_taken_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        with socket.create_connection((address.host, address.port)) as client:
            before = look_at(os.getpid(), address)
            accepted, _ = listener.accept()
            with accepted:
                client.sendall(bytes(1000))
                accepted.recv(1, socket.MSG_PEEK)  # it has arrived
                behind = look_at(os.getpid(), address)
                assert accepted.recv(1000, socket.MSG_WAITALL)
                read = look_at(os.getpid(), address)
    assert before is not None and behind is not None and read is not None
    assert (before.unread_bytes, behind.unread_bytes, read.unread_bytes) == (0, 1000, 0)
    assert before.ran_ns < read.ran_ns and not read.is_stopped


@pytest.mark.live
@on_linux
def test_a_process_that_is_stopped_is_seen_and_one_that_has_ended_is_nothing_to_decide() -> None:
    nobody = Address("127.0.0.1", 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        first, second = look_at(process.pid, nobody), look_at(process.pid, nobody)
        process.kill()
    assert first is not None and first.is_stopped
    assert second == first
    assert look_at(process.pid, nobody) is None
