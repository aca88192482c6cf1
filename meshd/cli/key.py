"""`meshd key`: the API keys of this node. Works whether its agent runs or not; a running one follows at once."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import msgspec
import typer

from meshd.cli.output import JsonFlag, fail, print_json, say
from meshd.cli.running import DataDirOption, data_dir
from meshd.cli.token import parse_duration_s
from meshd.key_store import KeyStore, keys_of
from meshd.keys import KEY_BYTES, ApiKey, BadKeys, Limits

app = typer.Typer(help="Create, list and revoke keys of the OpenAI API.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="its name, or the beginning that the list shows")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="whose key it is, or what for")],
    rate: Annotated[int, typer.Option(min=0, help="requests a minute (0: no limit)")] = 0,
    concurrency: Annotated[int, typer.Option(min=0, help="requests at a time (0: no limit)")] = 0,
    ttl: Annotated[str, typer.Option(help="how long it is valid: 24h, 30d (default: for ever)")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="may also act on the node in the console")] = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Print a new key, once: only its hash is kept. From the first key on, the API wants one."""
    store = _store(directory)
    try:
        limits = Limits(rate, concurrency, parse_duration_s(ttl) if ttl else None, admin)
        is_first = not store.now().keys
        secret = store.change(lambda ring: ring.create(name, limits, os.urandom(KEY_BYTES), time.time()))
    except (BadKeys, ValueError) as error:
        fail(str(error))
    if as_json:
        print_json({"name": name, "key": secret})
        return
    print(secret)
    say("keep it: it is not shown again")
    if is_first:
        say(
            "from now on this node's API wants a key, also from this host;"
            " start meshd with --keyless-network 127.0.0.0/8 to spare it that"
        )


@app.command(name="list")
def list_keys(directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Show every key: its name, how it begins, its limits and whether it still counts."""
    try:
        keys = _store(directory).now().keys
    except BadKeys as error:
        fail(str(error))
    now_s = time.time()
    if as_json:
        print_json({"keys": [_as_json(key, now_s) for key in keys]})
        return
    for key in keys:
        limits = f"{key.requests_per_min or 'any'}/min, {key.concurrency or 'any'} at a time"
        admin = ", admin" if key.is_admin else ""
        print(f"{key.name:<20} {key.beginning}…  {key.state(now_s):<8} {limits}{admin}")
    if not keys:
        say("no keys: the API is open to this host alone; make one with: meshd key create NAME")


@app.command()
def revoke(name: NameArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Make a key useless from now on."""
    try:
        key = _store(directory).change(lambda ring: ring.revoke(name, time.time()))
    except BadKeys as error:
        fail(str(error))
    _tell(key, "revoked", as_json)


@app.command()
def rm(name: NameArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Forget a key. Without any key left, the API is open to this host again."""
    try:
        key = _store(directory).change(lambda ring: ring.remove(name))
    except BadKeys as error:
        fail(str(error))
    _tell(key, "forgot", as_json)


def _store(directory: str) -> KeyStore:
    return keys_of(data_dir(directory).root)


def _tell(key: ApiKey, done: str, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(key, time.time()))
    else:
        print(f"{done} {key.name}")


def _as_json(key: ApiKey, now_s: float) -> dict[str, Any]:
    return {"state": key.state(now_s).value, **msgspec.structs.asdict(key)}
