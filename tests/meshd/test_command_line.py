"""The command line as a whole: every command can speak JSON, says what it is for, and is completed by shells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import main
from typer.testing import CliRunner

from meshd.cli.app import app

WITHOUT_JSON = {
    "blob get": "prints the blob",
    "bench": "hands its arguments to the bench, which takes --json",
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by how it is typed. The library that typer brings has no public types."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, found in inner.items():
        yield from leaves(found, (*path, name))


COMMANDS = dict(leaves(main.get_command(app)))


RELIED_ON = (
    *("status", "doctor", "plan", "chat", "call", "forms", "bench", "sim", "config", "demo", "leave", "version"),
    *("models list", "models pull", "models rm", "models load", "models unload"),
    *("token create", "token list", "token revoke", "key create", "key list", "key revoke", "mesh export-root"),
)
"""Of the architecture page."""


def test_the_commands_that_scripts_rely_on_are_there() -> None:
    assert set(RELIED_ON) - set(COMMANDS) == set()


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(WITHOUT_JSON)))
def test_every_command_prints_json_when_asked(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--json" in options


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_says_what_it_is_for(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, name
    silent = [parameter.name for parameter in command.params if not getattr(parameter, "help", "")]
    assert silent == []


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", {"COMP_WORDS": "meshd mod", "COMP_CWORD": "1"}, "models"),
        ("bash", {"COMP_WORDS": "meshd token ", "COMP_CWORD": "2"}, "create"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "meshd sta"}, "status"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "meshd doc", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "doctor"),
    ],
)
def test_shells_complete_commands(shell: str, words: dict[str, str], expected: str) -> None:
    program = [sys.executable, "-c", "from meshd.cli.app import app; app(prog_name='meshd')"]
    environment = os.environ | {"_MESHD_COMPLETE": f"complete_{shell}"} | words
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert expected in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("status", "--data-dir", "after"), "after"),
        (("--data-dir", "before", "status"), "before"),
        (("--data-dir", "before", "status", "--data-dir", "after"), "after"),
        (("status",), "environment"),
        (("--config", "meshd.toml", "models", "list"), "environment"),
    ],
)
def test_the_agent_that_is_meant_is_named_before_the_command_after_it_or_around_it(
    words: tuple[str, ...], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meshd.toml").write_text('data_dir = "file"\n')
    monkeypatch.setenv("MESHD_DATA_DIR", "environment")
    assert f"no meshd runs on {meant};" in CliRunner().invoke(app, words).stderr


def test_the_agent_that_the_configuration_file_names_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHD_DATA_DIR", raising=False)
    (tmp_path / "meshd.toml").write_text('data_dir = "file"\n')
    assert "no meshd runs on file;" in CliRunner().invoke(app, ["--config", "meshd.toml", "status"]).stderr
    missing = CliRunner().invoke(app, ["--config", "nowhere.toml", "status"])
    assert (missing.exit_code, "nowhere.toml: no such configuration file" in missing.stderr) == (2, True)
