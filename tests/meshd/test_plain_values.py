"""Values of options that need no pydantic are those that typer makes; all others are left to it, and its errors too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.cli.plain_values import NOT_PLAIN, plain, with_plain_first


@pytest.mark.parametrize(
    ("annotation", "typed", "value"),
    [(str, "5", "5"), (int, "5", 5), (float, "2.5", 2.5), (list[str], ("a", "b"), ["a", "b"])],
)
def test_plain_values(annotation: object, typed: object, value: object) -> None:
    assert plain(annotation, typed) == value


@pytest.mark.parametrize(("annotation", "typed"), [(int, "five"), (float, "x"), (bool, True), (list[int], ("1",))])
def test_what_is_wrong_or_not_plain_is_left_to_typer(annotation: object, typed: object) -> None:
    assert plain(annotation, typed) is NOT_PLAIN


def test_a_typer_that_says_less_of_its_parameters_converts_them_itself() -> None:
    class Bare:
        callback = None

        def process_value(self, ctx: object, value: object) -> str:
            return f"converted {value}"

    assert with_plain_first(Bare.process_value)(Bare(), None, "5") == "converted 5"


def meshd(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run by a user without settings of their own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MESHD_", "XDG_"))}
    environment["HOME"] = str(home)
    command = [sys.executable, "-m", "meshd", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)


def test_the_agent_gets_what_was_typed_and_nothing_else(tmp_path: Path) -> None:
    words = ("--port", "0", "--vram-limit", "2.5", "--model", "a", "--model", "b", "--no-mdns", "--kv-type", "q8_0")
    shown = meshd(tmp_path, *words, "config", "--show")
    given = [line.split("#")[0].strip() for line in shown.stdout.splitlines() if "# default" not in line]
    assert {'model = ["a", "b"]', "port = 0", "no_mdns = true", 'kv_type = "q8_0"', "vram_limit = 2.5"} == set(given)


@pytest.mark.parametrize(
    "words", [("--port", "five"), ("demo", "--nodes", "99"), ("models", "pull"), ("--kv-type", "x")]
)
def test_what_cannot_be_is_a_mistake_of_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = meshd(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Invalid value" in done.stderr or "Missing argument" in done.stderr
