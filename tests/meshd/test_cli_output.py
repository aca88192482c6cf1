"""What the command line says where things go wrong: one line that helps, never a traceback, and JSON to who asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from rich.table import Table
from typer import main

from meshd.cli.app import PANELS, app
from meshd.cli.output import page, reason_of
from meshd.config import Config

FULL = Path("/dev/full")


def run(
    home: Path, *words: str, stdout: int | None = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`meshd WORDS` for a user who never had it, with no one at the keyboard."""
    around = {name: value for name, value in os.environ.items() if not name.startswith(("MESHD_", "XDG_"))}
    return subprocess.run(
        [sys.executable, "-m", "meshd", *words],
        env=around | {"HOME": str(home)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("version",), ("config", "--json")])
def test_a_full_disk_behind_the_output_is_told_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = run(tmp_path, *words, stdout=full.fileno())

    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "make room" in done.stderr


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run(tmp_path, "circuit", "generate", "adder", "--folder", str(tmp_path / "file" / "variants"))

    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert str(tmp_path / "file") in done.stderr


def test_a_terminal_that_knows_ascii_alone_gets_question_marks(tmp_path: Path) -> None:
    done = run(tmp_path, "--name", "böx", "config", PYTHONIOENCODING="ascii")

    assert done.returncode == 0, done.stderr
    assert 'name = "b?x"' in done.stdout


def test_json_loses_nothing_to_a_terminal_that_knows_ascii_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "--name", "böx", "config", "--json", PYTHONIOENCODING="ascii")

    assert json.loads(done.stdout)["name"]["value"] == "böx"


def test_who_asked_for_json_gets_errors_as_json(tmp_path: Path) -> None:
    done = run(tmp_path, "status", "--json")

    assert done.returncode == 1
    assert "start one with `meshd`" in json.loads(done.stdout)["error"]
    assert done.stderr.startswith("meshd: no meshd runs on ")


def test_a_reply_that_could_not_be_written_is_not_computed(tmp_path: Path) -> None:
    done = run(tmp_path, "call", "(ping)", "--out", str(tmp_path / "nowhere" / "reply"))

    assert done.returncode == 2
    assert "there is no folder" in done.stderr


def test_the_settings_are_shown_as_a_file_may_have_them(tmp_path: Path) -> None:
    shown = run(tmp_path, "--name", "ätt'ic", "--lazy", "a b.gguf", "--vram-limit", "20", "config").stdout

    written = tomllib.loads(shown)
    assert (written["name"], written["lazy"], written["vram_limit"]) == ("ätt'ic", ["a b.gguf"], 20.0)
    assert written.keys() == {entry.name for entry in fields(Config)}


def test_a_setting_that_cannot_be_used_ends_with_2_and_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "--bind", "here")

    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert done.stderr == "meshd: --bind: expected HOST:PORT, got 'here', which has no port\n"


def test_a_data_directory_that_cannot_be_made_is_named_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run(tmp_path, "--data-dir", str(tmp_path / "file" / "data"))

    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "--data-dir" in done.stderr


def test_help_has_every_setting_below_a_heading() -> None:
    headed = [name for names in PANELS.values() for name in names]

    assert sorted(headed) == sorted([*(entry.name for entry in fields(Config)), "config"])
    assert {"--join", "--ctx"} <= {option for parameter in main.get_command(app).params for option in parameter.opts}


def test_an_error_of_the_system_names_its_file_and_what_mends_it() -> None:
    assert reason_of(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory"
    assert reason_of(PermissionError(13, "denied", "/x")) == "/x: denied; run this as the user whose it is"
    assert reason_of(OSError(28, "full")) == "standard output: full; make room there"


def test_a_backup_of_the_root_key_replaces_nothing(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    (data / "root.key").write_bytes(b"new")
    backup.write_bytes(b"old")

    done = run(tmp_path, "mesh", "export-root", str(backup), "--data-dir", str(data))

    assert (done.returncode, backup.read_bytes()) == (1, b"old")
    assert "name another file" in done.stderr


def test_what_peers_name_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    name = "echo:parrot: [/x] [bold]y"
    table = Table("node")
    table.add_row(name)

    page().print(table)
    page().print(name)

    assert capsys.readouterr().out.count(name) == 2
