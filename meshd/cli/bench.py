"""`meshd bench NAME`: the comparisons behind docs/benchmarks.md, which live in the repository beside the packages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Annotated

import typer

from meshd.cli.output import fail


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="api, agent, transport, tunnel, … as in bench/")],
) -> None:
    """Run a comparison side by side; further words go to it (`--json`, `--help`)."""
    if not name.isidentifier() or importlib.util.find_spec("bench") is None:
        fail("the benches are not part of the installed program: run `uv run --extra llm meshd bench NAME` in a clone")
    if importlib.util.find_spec(f"bench.{name}") is None:
        fail(f"there is no bench {name!r}; `ls bench` shows them")
    raise typer.Exit(subprocess.run([sys.executable, "-m", f"bench.{name}", *context.args], check=False).returncode)
