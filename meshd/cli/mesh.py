"""`meshd leave` and `meshd mesh …`: belonging to a mesh, and owning one."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from meshd.cli.output import JsonFlag, fail, print_json, say
from meshd.cli.running import DataDirOption, call, data_dir

app = typer.Typer(help="The mesh itself, for its owner: root key, delegates, revocations.", no_args_is_help=True)

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="name or id, as `meshd status` shows them")]


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
    except FileExistsError:
        fail(f"{file} is there already, and is not overwritten: name another file")
    with os.fdopen(handle, "wb") as target:
        target.write(root)
    if as_json:
        print_json({"file": str(file)})
    else:
        say(f"root key written to {file}; keep it where no one else can read it")


@app.command(name="rotate-root")
def rotate_root(directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Put a new root key in the place of the old one, which counts on for 30 days. Back the new one up."""
    answer = call(data_dir(directory), "rotate_root")
    if as_json:
        print_json(answer)
    else:
        until = datetime.fromtimestamp(answer["old_root_counts_until"]).astimezone()
        say(f"the mesh has a new root key ({answer['root']}); what the old one signed counts until {until:%Y-%m-%d}")
        say("back it up: meshd mesh export-root FILE")


@app.command()
def delegate(
    node: NodeArgument,
    remove: Annotated[bool, typer.Option("--remove", help="take the right to invite away again")] = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Let a member invite others by tokens of its own."""
    answer = call(data_dir(directory), "delegate", node=node, may_invite=not remove)
    if as_json:
        print_json(answer)
    elif remove:
        say(f"{node} may invite no more, from when it renews its certificate; whom it invited stays")
    else:
        say(f"{node} may invite as soon as it has heard of it: meshd token create, there")


@app.command()
def revoke(node: NodeArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Shut a node out of the mesh for good, and everyone whom it invited as a delegate."""
    answer = call(data_dir(directory), "revoke", node=node)
    if as_json:
        print_json(answer)
        return
    say(f"{node} is revoked ({answer['node'][:8]})")
    if others := [one[:8] for one in answer["disconnected"] if one != answer["node"]]:
        say(f"and with it, until they renew or join again: {', '.join(others)}")


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
