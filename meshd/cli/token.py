"""`meshd token`: invitations, and answers to those who ask without one; both are the running agent's to keep."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import Annotated, Literal

import typer

from meshd.cli.output import JsonFlag, fail, print_json, say
from meshd.cli.running import DataDirOption, call, data_dir

app = typer.Typer(help="Create, list and revoke invitations; answer requests to come in.", no_args_is_help=True)

DURATION = re.compile(r"(\d{1,6})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration_s(text: str) -> int:
    """Seconds in `30m`, `24h` or `7d`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is no duration: write 90s, 30m, 24h or 7d")
    return int(match[1]) * SECONDS[match[2]]


@app.command()
def create(
    role: Annotated[Literal["member", "client"], typer.Option(help="what the newcomer may do")] = "member",
    ttl: Annotated[str, typer.Option(help="how long it is valid: 30m, 24h, 7d")] = "24h",
    uses: Annotated[int, typer.Option(min=1, max=1000, help="how many nodes may use it")] = 1,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Print a new token; `meshd --join TOKEN` uses it."""
    try:
        ttl_s = parse_duration_s(ttl)
    except ValueError as error:
        fail(str(error))
    answer = call(data_dir(directory), "token_create", role=role, ttl_s=ttl_s, uses=uses)
    if as_json:
        print_json(answer)
        return
    print(answer["token"])
    if sys.stdout.isatty():
        client = "--client " if role == "client" else ""
        nodes = "one node" if uses == 1 else f"{uses} nodes"
        say(f"good for {nodes}, for {ttl}; there type: meshd {client}--join and the token")


@app.command(name="list")
def list_tokens(directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Show every token this node issued."""
    answer = call(data_dir(directory), "token_list")
    if as_json:
        print_json(answer)
        return
    for entry in answer["tokens"]:
        until = datetime.fromtimestamp(entry["expires"]).astimezone()
        uses = f"{entry['uses_left']} of {entry['uses']} uses left"
        print(f"{entry['id']}  {entry['role']:<7} {entry['state']:<8} until {until:%Y-%m-%d %H:%M}  {uses}")
    if not answer["tokens"]:
        say("no tokens: make one with meshd token create")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="as `meshd token list` shows it")],
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a token useless from now on."""
    answer = call(data_dir(directory), "token_revoke", id=token_id)
    if as_json:
        print_json(answer)
    else:
        print(f"revoked {token_id}")


@app.command()
def requests(directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Show who asks to come in without a token, and what was answered in the last ten minutes."""
    answer = call(data_dir(directory), "token_requests")
    if as_json:
        print_json(answer)
        return
    for entry in answer["requests"]:
        who = f"{entry['name']} ({entry['node'][:8]}) at {entry['address']}"
        print(f"{entry['id']}  {entry['role']:<7} {entry['state']:<8} {entry['age_s']:>4} s ago  {who}")
    if not answer["requests"]:
        say("nobody asks to come in; a host on this network does with: meshd --mesh NAME")


CodeArgument = Annotated[str, typer.Argument(metavar="ID", help="the code that the asking host shows")]


@app.command()
def accept(code: CodeArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Let in the node that shows this code. Type it from there: that proves that nobody is in between."""
    _answer("token_accept", code, directory, as_json)


@app.command()
def refuse(code: CodeArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Turn away the node that asks with this code."""
    _answer("token_refuse", code, directory, as_json)


def _answer(command: str, code: str, directory: str, as_json: bool) -> None:
    answer = call(data_dir(directory), command, id=code)
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['state']} {answer['name']} ({answer['node'][:8]}) at {answer['address']} as {answer['role']}")
