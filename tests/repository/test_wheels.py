"""A wheel made again from what is installed is the wheel that it was installed from."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from tools.wheels import NotInstalled, inside, needed, wheel_again


def made_up(folder: Path, *requirements: str) -> Distribution:
    """A distribution that wants those."""
    info = folder / "made_up-1.0.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.4",
        "Name: made-up",
        "Version: 1.0",
        *(f"Requires-Dist: {one}" for one in requirements),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    return Distribution.at(info)


def test_they_install_again_with_every_file_and_program(tmp_path: Path) -> None:
    """msgspec is compiled, typer has a program of an entry point, rust-just one that is a file of its own."""
    wheels = [wheel_again(distribution(name), tmp_path) for name in ("msgspec", "typer", "rust-just")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(tmp_path / "there"), *map(str, wheels)], check=True, timeout=250)

    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = [one for one in archive.namelist() if ".data/" not in one and not one.endswith("RECORD")]
            assert names and all((tmp_path / "there" / one).read_bytes() == archive.read(one) for one in names)
    assert {path.name for path in (tmp_path / "there/bin").glob("*")} == {"typer", "just"}


def test_a_wheel_made_again_can_be_asked_what_it_is(tmp_path: Path) -> None:
    told = inside(wheel_again(distribution("typer"), tmp_path))

    assert (told.name, told.version) == ("typer", distribution("typer").version)


def test_what_is_needed_follows_extras_and_markers(tmp_path: Path) -> None:
    wanted = ("msgspec", "zstandard ; extra == 'packed'", "no-such-thing ; sys_platform == 'win32'")
    root = made_up(tmp_path, *wanted)

    assert set(needed(root, ())) == {"msgspec"}
    assert set(needed(root, ("packed",))) == {"msgspec", "zstandard"}


def test_what_is_needed_of_another_comes_with_its_own_needs(tmp_path: Path) -> None:
    assert {"uvicorn", "click", "h11"} <= set(needed(made_up(tmp_path, "uvicorn"), ()))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="no-such-thing"):
        needed(made_up(tmp_path, "no-such-thing"), ())
