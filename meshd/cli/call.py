"""`meshd call`: run a form wherever it finishes first, or on a node by name; in text, or a frame from a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from forms.request import replied
from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.running import DataDirOption, data_dir
from meshd.control import CommandFailed, ControlClient, NotRunning

LONGEST_CALL_S = 620.0


def call(
    words: Annotated[list[str], typer.Argument(metavar="'(form …)' | FORM", help="several texts run at once")],
    on: Annotated[str, typer.Option("--on", metavar="NODE", help="run it there", show_default=False)] = "",
    given: Annotated[
        Path | None, typer.Option("--in", metavar="FILE", help="a request of FORM", dir_okay=False, exists=True)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="for the reply", dir_okay=False)] = None,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Run a form where it finishes first, and print its reply. Exits 1 when the reply is an error.

    With --json also where it ran, why there, by what and how long it took.
    """
    if out is not None and not out.parent.is_dir():
        raise typer.BadParameter(f"--out: there is no folder {out.parent}")  # before anything is computed
    payload = _from_file(words, given) if given is not None else _texts(words, on).encode()
    client = ControlClient(data_dir(directory).control_socket, LONGEST_CALL_S)
    try:
        reply, told = client.post("form_call", payload, on=on)
    except (NotRunning, CommandFailed) as failure:
        fail(str(failure))
    if out is not None and replied(reply):
        out.write_bytes(reply)
    if as_json:
        print_json(_object(reply, told))
    elif out is None or not replied(reply):
        _show(reply)
    raise typer.Exit(0 if replied(reply) else 1)


def _show(reply: bytes) -> None:
    """Print a reply where its reader looks for it: an error on stderr, and no frame on a terminal."""
    is_text = reply.startswith(b"(")
    if is_text or not sys.stdout.isatty():
        (sys.stdout if replied(reply) else sys.stderr).buffer.write(reply)
    elif replied(reply):
        fail(f"the reply is a frame of {len(reply)} bytes: give --out FILE")
    else:
        fail(reply[12:].decode("utf-8", "replace"))


def _object(reply: bytes, told: Mapping[str, str]) -> dict[str, Any]:
    """What --json prints. reply: text, or null for a frame, which goes to a file."""
    said = {name: told.get(f"x-meshd-{name}", "") for name in ("node", "why", "backend")}
    text = reply.decode("utf-8", "replace").strip() if reply.startswith(b"(") else None
    seconds = float(told.get("x-meshd-seconds", 0))
    said["request_id"] = told.get("x-request-id", "")
    return {"ok": replied(reply), "reply": text, "reply_bytes": len(reply), **said, "seconds": seconds}


def _texts(words: list[str], on: str) -> str:
    if any(not word.lstrip().startswith("(") for word in words):
        raise typer.BadParameter("expected '(form …)', or FORM --in FILE --out FILE")
    if len(words) > 1 and on:
        raise typer.BadParameter("--on takes one call")
    return words[0] if len(words) == 1 else f"(bend {' '.join(words)})"


def _from_file(words: list[str], given: Path) -> bytes:
    """The request in a file, which has to be one of that form."""
    from forms.errors import FormFailed
    from forms.installed import catalogue
    from forms.request import Request

    if len(words) != 1 or words[0].startswith("("):
        raise typer.BadParameter("with --in: the name of one form")
    payload = given.read_bytes()
    request = Request(payload.lstrip()[:1] == b"(", payload)
    try:
        found = request.head if request.is_text else catalogue().of_magic(payload[:4]).name
    except FormFailed as failure:
        fail(f"{given}: {failure}")
    if found != words[0]:
        fail(f"{given} is a call of {found or 'no form'}, not of {words[0]}")
    return payload
