"""The wheel holds exactly the five packages, and the base install needs no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"meshd", "transport", "gossip", "forms", "llm"}


@pytest.mark.live
def test_the_wheel_holds_the_five_packages_with_every_file_of_theirs(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    assert uv is not None, "the README installs uv first"
    command = [uv, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=250, env={**os.environ, "UV_NO_PROGRESS": "1"})

    (wheel,) = tmp_path.glob("meshd_gpu-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == PACKAGES
    assert {"llm/demo/meshd-toy.gguf", "llm/demo/meshd-toy-draft.gguf"} <= set(names)
    assert {f"forms/survey/{name}" for name in ("bend-catalogue.csv", "seven.csv", "measured.json")} <= set(names)
    assert {"forms/cuda/host.h", "forms/live/rows.h", "forms/live/shake.cu", "forms/circuits/simulate.cu"} <= set(names)
    assert {f"meshd/console/static/{name}" for name in ("index.html", "style.css", "app.js", "icon.svg")} <= set(names)
    assert tracked_files() <= set(names)


def tracked_files() -> set[str]:
    """Everything in the five packages that git keeps."""
    done = subprocess.run(["git", "ls-files", *sorted(PACKAGES)], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def test_what_compiles_is_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert project["name"] == "meshd-gpu"
    assert set(project["optional-dependencies"]) == {"llm", "cuda12", "cuda13", "cpu-forms", "plots"}
    assert not [line for line in project["dependencies"] if line.startswith(("llama", "cupy", "torch", "numba"))]


def test_every_dependency_is_pinned() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pinned = {line.partition("==")[0] for line in document["tool"]["uv"]["constraint-dependencies"]}
    extras = document["project"]["optional-dependencies"].values()
    groups = document["dependency-groups"].values()
    named = [*document["project"]["dependencies"], *(line for one in (*extras, *groups) for line in one)]

    missing = {name_of(line) for line in named} - pinned
    assert not missing, "run `just pin`"


def name_of(requirement: str) -> str:
    """The project's name in a requirement line."""
    for mark in "[<>=!~; ":
        requirement = requirement.partition(mark)[0]
    return requirement.lower()
