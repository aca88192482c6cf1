"""What `tests/conftest.py` does for every test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import gc

class Unfinished:
    def __init__(self):
        self.itself = self

    def __del__(self):
        raise RuntimeError("the loop is closed")

def test_that_fails():
    left = Unfinished()
    assert False

def test_sound():
    gc.collect()
"""


def test_what_a_failed_test_left_fails_no_other(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error::pytest.PytestUnraisableExceptionWarning\n")
    (tmp_path / "test_made_up.py").write_text(TESTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:xdist", "-q"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "1 failed, 1 passed" in ran.stdout, ran.stdout
