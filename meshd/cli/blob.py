"""`meshd blob`: what this node keeps for forms, by its SHA-256: put a file, get one out, list, remove."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.running import DataDirOption, data_dir
from meshd.control import CommandFailed, ControlClient, NotRunning

app = typer.Typer(
    help="Blobs for forms, such as circuits: put, get, list and remove them by their SHA-256.", no_args_is_help=True
)

TRANSFER_TIMEOUT_S = 3600.0

DigestArgument = Annotated[str, typer.Argument(metavar="SHA256", help="64 hex digits", show_default=False)]


@app.command()
def put(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="any file", show_default=False)],
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Keep a file's bytes on this node, and print the SHA-256 that forms call them by."""
    stored = _call(directory, "blob_put", path=str(file.absolute()))
    _told(stored, as_json, stored["digest"])


@app.command()
def get(
    digest: DigestArgument,
    out: Annotated[str, typer.Option("--out", help="the file to write (default: standard output)")] = "",
    directory: DataDirOption = "",
) -> None:
    """Write a blob out; one that is not here is pulled from a node that has it."""
    found = _call(directory, "blob_find", digest=digest)
    with Path(found["path"]).open("rb") as blob:
        if out:
            with Path(out).open("wb") as file:
                shutil.copyfileobj(blob, file)
        else:
            shutil.copyfileobj(blob, sys.stdout.buffer)


@app.command(name="list")
def list_blobs(directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """List what is here, and how much room there is."""
    found = _call(directory, "blobs")
    if as_json:
        print_json(found)
        return
    for blob in found["blobs"]:
        print(f"{blob['digest']}  {blob['size_bytes']:>14,}  {'copy' if blob['is_copy'] else 'kept'}")
    print(f"{found['used_bytes'] / 1e9:.3f} of {found['quota_bytes'] / 1e9:.3f} GB; copies give way to others")


@app.command()
def rm(digest: DigestArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Remove a blob from this node."""
    _told(_call(directory, "blob_remove", digest=digest), as_json, f"{digest}: removed")


def _call(directory: str, command: str, **arguments: Any) -> dict[str, Any]:
    try:
        return ControlClient(data_dir(directory).control_socket, TRANSFER_TIMEOUT_S).call(command, **arguments)
    except (NotRunning, CommandFailed) as failure:
        fail(str(failure))


def _told(answer: dict[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        print_json(answer)
    else:
        print(words)
