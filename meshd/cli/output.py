"""How every command speaks: one JSON object or a page for people on stdout, messages on stderr."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, NoReturn

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def print_json(answer: dict[str, Any]) -> None:
    """Print one object on stdout."""
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")


def say(message: str) -> None:
    """Print one line for a person on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def fail(message: str) -> NoReturn:
    """Say what went wrong and what to do, and exit 1."""
    say(f"meshd: {message}")
    raise typer.Exit(1)
