"""`meshd leave` and `meshd mesh …`: belonging to a mesh, and owning one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from meshd.cli.output import JsonFlag, fail, print_json, say
from meshd.cli.running import DataDirOption, call, data_dir

app = typer.Typer(help="The mesh itself: its root key.", no_args_is_help=True)


@app.command(name="export-root")
def export_root(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="where to write the key; must not exist")],
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Back up the root key: whoever holds it owns the mesh."""
    root = data_dir(directory).read("root.key")
    if root is None:
        fail("this node does not hold the mesh's root key; run this on the founder")
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    with os.fdopen(handle, "wb") as target:
        target.write(root)
    if as_json:
        print_json({"file": str(file)})
    else:
        say(f"root key written to {file}; keep it where no one else can read it")


def leave(
    force: Annotated[bool, typer.Option("--force", help="leave even though the root key is only here")] = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Say goodbye to the mesh, forget it, and stop the running agent."""
    answer = call(data_dir(directory), "leave", force=force)
    if as_json:
        print_json(answer)
    else:
        say(f"left {answer['mesh']}")
