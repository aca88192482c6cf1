"""Runs the tests, several files at a time, and those live ones that failed once more, alone.

A live test shares its machine with all that runs beside it, and a pause of seconds may be that machine's fault. What
passes alone passes the run, and is named at its end; anything else that fails, fails it: tests that depend on nothing
but themselves, more than a few live ones, and those that fail alone as well.
Usage: python -m tools.second_turn [ARGUMENTS OF PYTEST]...
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pytest

MOST = 8
"""More than that many failures are no machine's mood. Tests that one file's fixture failed for count as one."""
BESIDE_OTHERS = ("-n", "3", "--dist", "loadfile")


@dataclass(frozen=True, slots=True)
class Failure:
    """One test. cause: what failures of a like cause share: the file whose tests could not be set up, else the test."""

    is_live: bool
    cause: str


class Failures:
    """A plugin of pytest that keeps what failed, by node id. not_run: tests that a run that was cut short left out."""

    def __init__(self) -> None:
        self.not_run: set[str] = set()
        self._is_collected = False
        self._live: set[str] = set()
        self._causes: dict[str, str] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        if not self._is_collected:  # one that replaces a dead worker collects again
            self.not_run.update(ids)
        self._is_collected = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.when == "teardown":
            self.not_run.discard(report.nodeid)
        # What is reported of a worker that died in a test has no keywords; that the test was set up, was told before.
        if "live" in report.keywords:
            self._live.add(report.nodeid)
        if report.failed:
            self._causes[report.nodeid] = report.nodeid.partition("::")[0] if report.when == "setup" else report.nodeid

    @property
    def failed(self) -> dict[str, Failure]:
        return {test: Failure(test in self._live, cause) for test, cause in self._causes.items()}


def why_no_second_turn(failed: Mapping[str, Failure], not_run: Collection[str] = ()) -> str:
    """Why these failures stand; empty when each of them may be tried again alone."""
    if not failed:
        return "no test of its own failed"
    if not_run:
        return f"{len(not_run)} tests were not run: {min(not_run)}"
    if others := [test for test, failure in failed.items() if not failure.is_live]:
        return f"{len(others)} of those that failed depend on no machine: {others[0]}"
    if len(causes := {failure.cause for failure in failed.values()}) > MOST:
        return f"{len(causes)} failed; at most {MOST} are run again"
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
    if why_not := why_no_second_turn(failures.failed, failures.not_run):
        print(f"no second turn: {why_not}", flush=True)
        return int(status)
    passed = {test: alone(test) for test in failures.failed}
    print("\n=== second turns")
    for test, has_passed in passed.items():
        print(f"failed beside others, {'passed' if has_passed else 'failed'} alone: {test}")
    return int(pytest.ExitCode.OK if all(passed.values()) else pytest.ExitCode.TESTS_FAILED)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
