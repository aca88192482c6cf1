"""How every command speaks: one JSON object or a page for people on stdout, messages on stderr."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="print one JSON object")]

PAGE_WIDTH = 160
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def print_json(answer: dict[str, Any]) -> None:
    """Print one object on stdout."""
    # Where the terminal knows no UTF-8, escapes keep what would else become question marks.
    is_ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(answer, ensure_ascii=is_ascii, indent=2) + "\n")


def page(elsewhere: int = PAGE_WIDTH) -> Console:
    """Where tables go: as wide as the terminal, `elsewhere` characters in a pipe.

    Nothing in it is markup or an emoji: names and reasons come from other nodes too.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else elsewhere
    return Console(width=width, markup=False, emoji=False, highlight=False)


def say(message: str) -> None:
    """Print one line for a person on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what went wrong and what to do, also as `{"error": …}` where --json was asked for, and exit with `code`."""
    if "--json" in sys.argv:
        print_json({"error": message})
    say(f"meshd: {message}")
    raise typer.Exit(code)


def tell_anyway() -> None:
    """Have what a terminal's encoding cannot write become question marks instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def reason_of(error: OSError) -> str:
    """What a person reads of a file that could not be read or written."""
    what = error.strerror or str(error)
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "standard output"
    advice = "; make room there" if error.errno in NO_ROOM else ""
    advice = "; run this as the user whose it is" if error.errno == errno.EACCES else advice
    return f"{where}: {what}{advice}"
