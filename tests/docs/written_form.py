"""The files that docs/write-a-form.md tells its reader to write, and the package that they make."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "write-a-form.md"
ENTRY_POINTS = '[project.entry-points."meshd.forms"]\n'
ENTRY_POINT = re.compile(r"one more line under the entry points: `(.*?)`")
BLOCK = re.compile(r"`([\w.-]+\.(?:py|toml|cu))`:\n\n```\w+\n(.*?)```\n", re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """(file, what is to be written at its end), in the page's order."""
    return BLOCK.findall(PAGE.read_text("utf-8"))


def write_files(folder: Path) -> None:
    """Write them all, as the page says."""
    folder.mkdir()
    for name, text in blocks():
        with (folder / name).open("a") as file:
            file.write(text)
    (line,) = ENTRY_POINT.findall(PAGE.read_text("utf-8"))
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace(ENTRY_POINTS, f"{ENTRY_POINTS}{line}\n"))


def install(folder: Path) -> None:
    """Make the folder importable with its entry points, as an installer does from pyproject.toml."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        )
    )
