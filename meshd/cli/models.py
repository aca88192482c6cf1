"""`meshd models`: which there are, in memory or not; bring, load, unload and remove them while the agent runs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from meshd.cli.output import JsonFlag, fail, page, print_json, say
from meshd.cli.running import DataDirOption, data_dir
from meshd.control import CommandFailed, ControlClient, NotRunning

app = typer.Typer(help="List the models of the mesh; bring, load, unload and remove those of this node.")

UNLOAD_TIMEOUT_S = 60.0
POLL_S = 0.3
OVER = ("done", "failed", "cancelled")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="as `meshd models` shows it", show_default=False)]
NoWaitFlag = Annotated[bool, typer.Option("--no-wait", help="return at once; the agent goes on")]


@app.callback(invoke_without_command=True)
def _models(context: typer.Context, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """List the models of the mesh, and what is on its way here."""
    if context.invoked_subcommand is None:
        list_models(directory, as_json)


@app.command(name="list")
def list_models(directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """List the models of the mesh, and what is on its way here."""
    found = _agent(directory).call("models")
    if as_json:
        print_json(found)
    else:
        _show(found)


@app.command()
def load(
    target: Annotated[
        str, typer.Argument(metavar="NAME|PATH|hf:…", help="a model of the mesh, a GGUF file, or a spec")
    ],
    lazy: Annotated[bool, typer.Option("--lazy", help="load it at its first request, unload it when idle")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="keep it in memory")] = False,
    no_wait: NoWaitFlag = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Bring a model into this node's memory, its files from another node or the hub where they are not here."""
    if lazy and pin:
        raise typer.BadParameter("--lazy and --pin exclude each other")
    agent = _agent(directory)
    policy = "pinned" if pin else "lazy" if lazy else None
    begun = agent.call("model_load", **_named(target), policy=policy)
    if no_wait:
        _told(begun, as_json, "begun")
        return
    name = _brought(agent, begun)
    entry = _entry(agent, name) if lazy else _loaded(agent, name)
    _told(entry, as_json, f"{entry['name']}: {entry['state']}; {entry['reason']}")


@app.command()
def unload(name: NameArgument, directory: DataDirOption = "", as_json: JsonFlag = False) -> None:
    """Take a model out of this node's memory; it loads again at its next request."""
    _told(_agent(directory).call("model_unload", name=name), as_json, f"{name}: unloaded")


@app.command()
def pull(
    spec: Annotated[str, typer.Argument(metavar="hf:OWNER/REPOSITORY[:QUANT]|NAME", help="or a model of the mesh")],
    no_wait: NoWaitFlag = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Bring a model's files to this node, from another one or from the hub, and offer it as a lazy model."""
    agent = _agent(directory)
    begun = agent.call("model_pull", name=spec)
    if no_wait:
        _told(begun, as_json, "begun")
        return
    entry = _entry(agent, _brought(agent, begun))
    _told(entry, as_json, f"{entry['name']}: here, {entry['state']}")


@app.command()
def rm(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Forget a model of this node, and delete its files if meshd brought them; or call off what is on its way."""
    agent = _agent(directory)
    plan = agent.call("model_remove", name=name)
    if not yes and not _agreed(f"{_words(plan)}. Go on?"):
        fail("nothing was changed; --yes goes on without asking")
    _told(agent.call("model_remove", name=name, is_sure=True), as_json, f"{plan['name']}: removed")


class _Agent:
    """The running agent, asked for as long as an unload may take. Failures end the program with their reason."""

    def __init__(self, directory: str) -> None:
        self._client = ControlClient(data_dir(directory).control_socket, UNLOAD_TIMEOUT_S)

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        try:
            return self._client.call(command, **arguments)
        except (NotRunning, CommandFailed) as failure:
            fail(str(failure))


def _agent(directory: str) -> _Agent:
    return _Agent(directory)


def _named(target: str) -> dict[str, str]:
    """A file by its path, all else by its name."""
    is_path = not target.startswith("hf:") and (target.endswith(".gguf") or Path(target).expanduser().is_file())
    return {"path": str(Path(target).expanduser().absolute())} if is_path else {"name": target}


def _agreed(question: str) -> bool:
    """What the person says; no, where there is none to ask."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        say("")
        return False


def _words(plan: dict[str, Any]) -> str:
    if plan["deletes"]:
        return f"this deletes {plan['bytes'] / 1e9:.2f} GB: {', '.join(plan['deletes'])}"
    kept = f"; meshd did not bring {', '.join(plan['keeps'])} and leaves it" if plan["keeps"] else ""
    return f"this forgets {plan['name']}{kept}"


def _told(answer: dict[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        print_json(answer)
    else:
        print(words)


def _brought(agent: _Agent, begun: dict[str, Any]) -> str:
    """The model's name once its files are here, with a progress bar until then."""
    if not begun["fetching"]:
        return str(begun["name"])
    with _bar(str(begun["name"])) as show, _left_alone(str(begun["name"])):
        while True:
            download = next(one for one in agent.call("models")["downloads"] if one["wanted"] == begun["name"])
            show(download)
            if download["state"] in OVER:
                break
            time.sleep(POLL_S)
    if download["state"] != "done":
        told = str(download["reason"])
        fail(told if begun["name"] in told else f"{begun['name']}: {told}")
    return str(download["name"])


def _loaded(agent: _Agent, name: str) -> dict[str, Any]:
    """The model's entry once it is in memory."""
    told = ""
    with _left_alone(name):
        while True:
            entry = _entry(agent, name)
            if entry["state"] == "ready":
                return entry
            if entry["state"] in ("failed", "stopped", "unloaded"):
                fail(f"{name}: {entry['state']}: {entry['reason']}")
            if entry["reason"] != told:
                told = entry["reason"]
                say(f"{name}: {entry['state']}: {told}")
            time.sleep(POLL_S)


def _entry(agent: _Agent, name: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = agent.call("models")["models"]
    found = next((one for one in entries if one["here"] and one["name"].partition("@")[0] == name), None)
    if found is None:
        fail(f"model {name!r} is not on this node")
    return found


@contextlib.contextmanager
def _left_alone(what: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        fail(f"{what}: the agent goes on; `meshd models` shows how far it is, `meshd models rm` calls a download off")


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A progress bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=None)

        def show(download: dict[str, Any]) -> None:
            words = f"{download['name'] or title}, {download['source'] or download['reason']}"
            total = download["size_bytes"] or None
            progress.update(task, description=words, total=total, completed=download["done_bytes"])

        yield show


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    console = page()
    table = Table("model", "state", "size GB", "where", "policy", "held GB", "why")
    for model in found["models"]:
        table.add_row(*_cells(model))
    console.print(table)
    for one in found["downloads"]:
        if one["state"] not in ("done", "cancelled"):
            console.print(f"{one['wanted']}: {one['state']}: {one['reason']}")


def _cells(model: dict[str, Any]) -> tuple[str, ...]:
    held = f"{model['held_bytes'] / 1e9:.2f}" if model["held_bytes"] else ""
    size = f"{model['size_bytes'] / 1e9:.2f}" if model["size_bytes"] else ""
    where = ", ".join(model["hosts"]) + (" (here)" if model["here"] else "")
    return model["name"], model["state"], size, where, model["policy"] or "", held, model["reason"]
