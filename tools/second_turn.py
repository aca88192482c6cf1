"""Runs the tests, several files at a time, and those live ones that failed once more, alone.

A live test shares its machine with all that runs beside it, and a pause of seconds may be that machine's fault. What
passes alone passes the run, and is named at its end; anything else that fails, fails it: tests that depend on nothing
but themselves, more than a few live ones, and those that fail alone as well.
Usage: python -m tools.second_turn [ARGUMENTS OF PYTEST]...
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

MOST = 8
"""More than that many failures are no machine's mood."""
BESIDE_OTHERS = ("-n", "3", "--dist", "loadfile")


class Failures:
    """A plugin of pytest that keeps what failed, by node id: whether it is a live test."""

    def __init__(self) -> None:
        self.is_live: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.is_live[report.nodeid] = "live" in report.keywords


def why_no_second_turn(is_live: Mapping[str, bool]) -> str:
    """Why these failures stand; empty when each of them may be tried again alone."""
    if not is_live:
        return "no test of its own failed"
    if others := [test for test, live in is_live.items() if not live]:
        return f"{len(others)} of those that failed depend on no machine: {others[0]}"
    if len(is_live) > MOST:
        return f"{len(is_live)} failed; at most {MOST} are run again"
    return ""


def alone(test: str) -> bool:
    """Run one test in a process of its own, with nothing of ours beside it; whether it passes."""
    print(f"\n=== once more, alone: {test}", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", "-p", "no:xdist", test]).returncode == pytest.ExitCode.OK


def run(arguments: Sequence[str]) -> int:
    """The exit status of the whole."""
    failures = Failures()
    status = pytest.main([*BESIDE_OTHERS, *arguments], plugins=[failures])
    if status != pytest.ExitCode.TESTS_FAILED:
        return int(status)
    if why_not := why_no_second_turn(failures.is_live):
        print(f"no second turn: {why_not}", flush=True)
        return int(status)
    passed = {test: alone(test) for test in failures.is_live}
    print("\n=== second turns")
    for test, has_passed in passed.items():
        print(f"failed beside others, {'passed' if has_passed else 'failed'} alone: {test}")
    return int(pytest.ExitCode.OK if all(passed.values()) else pytest.ExitCode.TESTS_FAILED)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
