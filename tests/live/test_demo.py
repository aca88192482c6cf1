"""`meshd demo --once`: what a newcomer sees first."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator

import psutil

PR_SET_CHILD_SUBREAPER = 36  # Linux; CPython does not name it
DEMO = [sys.executable, "-m", "meshd", "demo", "--once"]


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Orphans of what is started meanwhile become this process's own children, to be told from others'."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_the_demo_answers_through_the_lite_client_and_leaves_nothing() -> None:
    with adopting():
        done = subprocess.run([*DEMO, "--json"], capture_output=True, text=True, timeout=250, check=False)
        left = [process.name() for process in psutil.Process().children(recursive=True)]

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"answer", "path", "ttft_ms", "tokens_per_s", "bend", "nodes"}
    assert "meshd" in answer["answer"]
    assert answer["path"] == ["laptop", "QUIC", "host", "llama-server (solo)"]
    assert answer["bend"]["path"] == ["laptop", "QUIC", "host"]
    assert hashlib.shake_256(b"bend").hexdigest(32) in answer["bend"]["reply"]
    assert answer["ttft_ms"] > 0 and answer["tokens_per_s"] > 0
    assert [node["role"] for node in answer["nodes"]] == ["owner", "member", "client"]
    assert "starting the host" in done.stderr
    assert not [name for name in left if name in ("llama-server", "meshd")]


def test_the_demo_answers_over_bad_ways() -> None:
    impair = ["--impair", "delay=40ms,jitter=5ms,loss=5%", "--nodes", "2"]
    done = subprocess.run([*DEMO, "--json", *impair], capture_output=True, text=True, timeout=250, check=False)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "meshd" in answer["answer"]
    assert answer["ttft_ms"] >= 70  # there and back, each 40 ms ± 5
    assert answer["impaired"]["conditions"] == impair[1]
    assert answer["impaired"]["passed"] > 20
    assert "delay=40ms" in done.stderr


def test_conditions_that_cannot_be_read_are_a_usage_error() -> None:
    done = subprocess.run([*DEMO, "--impair", "los=5%"], capture_output=True, text=True, timeout=250, check=False)

    assert done.returncode == 2
    assert "los=5%" in done.stderr
