"""What the CPUs have worked for a process, as the system counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from llm.engines.cpu_clock import cpu_seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say it of another process")


def test_it_is_the_clock_that_a_process_has_of_itself() -> None:
    before = time.process_time()
    told = cpu_seconds(os.getpid())
    assert told is not None
    assert before <= told <= time.process_time()


def test_a_child_is_told_until_it_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert cpu_seconds(child.pid) is not None
        child.communicate(b"\n")
    assert cpu_seconds(child.pid) is None
