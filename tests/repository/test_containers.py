"""The container files are what their tools take. No image is built here: that wants an engine and a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
DOCKERFILES = sorted(CONTAINERS.glob("*.Dockerfile"))


def checked(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the environment's own programs."""
    return subprocess.run(
        [Path(sys.executable).with_name(program), *arguments], capture_output=True, text=True, timeout=250, check=False
    )


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    done = checked("hadolint", "--no-color", file)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_would_have_something_to_say(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN apt-get install curl\n")

    assert "DL3006" in checked("hadolint", "--no-color", bad).stdout


def test_the_compose_file_keeps_the_compose_specification() -> None:
    done = checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", CONTAINERS / "compose.yaml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_runs_as_nobody_in_particular_and_carries_no_compiler(file: Path) -> None:
    last_stage = file.read_text("utf-8").rpartition("\nFROM ")[2]

    assert "USER 10001:10001" in last_stage
    assert "g++" not in last_stage and "-devel-" not in last_stage.partition("\n")[0]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_the_engine_is_open_to_the_user_that_the_image_runs_as(file: Path) -> None:
    """tools/engine.py makes its folder as in a data directory, for root alone in an image."""
    build_stage = file.read_text("utf-8").rpartition("\nFROM ")[0]

    assert "tools/engine.py" in build_stage
    assert build_stage.rpartition("tools/engine.py")[2].split()[-3:] == ["chmod", "0755", "/opt/meshd"]


def test_both_images_build_with_the_same_tools() -> None:
    pins = {line for file in DOCKERFILES for line in file.read_text("utf-8").splitlines() if "pip install" in line}

    assert len(DOCKERFILES) == 2 and len(pins) == 1


def test_the_context_leaves_out_what_is_large_or_secret() -> None:
    left_out = (ROOT / ".dockerignore").read_text("utf-8").split()

    assert {".git", ".venv", "build", "dist", "models", "api-keys"} <= set(left_out)
