"""Live tests that failed beside others are run once more, alone; what fails alone, or is not live, fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.second_turn import MOST, Failure, why_no_second_turn

ROOT = Path(__file__).parents[2]
# A worker of pytest-xdist has others beside it.
TESTS = """
import os
from pathlib import Path
import pytest

DIED = Path("died")
BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ

@pytest.mark.live
@pytest.mark.parametrize("words", ["one [and] two"])
def test_moody(words):
    assert not BESIDE_OTHERS

@pytest.mark.live
def test_that_kills_its_worker():
    if not DIED.exists():
        DIED.touch()
        os._exit(1)

def test_sound():
    pass
"""
BROKEN = """
@pytest.mark.live
def test_broken():
    assert False
"""


def run(folder: Path, tests: str) -> tuple[int, list[str]]:
    """The exit status, and what was printed once all had run beside each other."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  live: is\n")
    (folder / "test_made_up.py").write_text(tests)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(
        [sys.executable, "-m", "tools.second_turn", "-p", "xdist.plugin", "-q", "-n", "1"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    lines = ran.stdout.splitlines()
    return ran.returncode, [line for line in lines if " alone: " in line or line.startswith("no second turn")]


def test_what_passes_alone_passes_the_run_and_is_named(tmp_path: Path) -> None:
    status, said = run(tmp_path, TESTS)

    moody = "test_made_up.py::test_moody[one [and] two]"
    deadly = "test_made_up.py::test_that_kills_its_worker"
    assert (status, said[-2:]) == (0, [f"failed beside others, passed alone: {test}" for test in (moody, deadly)])


def test_what_fails_alone_fails_the_run(tmp_path: Path) -> None:
    status, said = run(tmp_path, TESTS + BROKEN)

    assert status == 1
    assert {line.partition(":")[0] for line in said[-2:]} == {
        "failed beside others, passed alone",
        "failed beside others, failed alone",
    }


def test_a_run_that_was_cut_short_gets_no_second_turn() -> None:
    assert "1 tests were not run: b" in why_no_second_turn({"a": Failure(True, "a")}, {"b"})


def test_what_depends_on_no_machine_gets_no_second_turn() -> None:
    failed = {"test_moody": Failure(True, "test_moody"), "test_sum": Failure(False, "test_sum")}
    assert why_no_second_turn(failed).endswith("depend on no machine: test_sum")


def test_only_a_few_get_a_second_turn() -> None:
    failed = {f"test_{number}": Failure(True, f"test_{number}") for number in range(MOST + 1)}
    assert f"{MOST + 1} failed" in why_no_second_turn(failed)
    failed.pop("test_0")
    assert not why_no_second_turn(failed)
    assert why_no_second_turn({})  # a worker that could not begin, say


def test_what_one_fixture_failed_for_counts_once() -> None:
    assert not why_no_second_turn({f"test_{number}": Failure(True, "tests/a.py") for number in range(3 * MOST)})
