"""The `meshd` command: without a subcommand it runs the agent."""

from __future__ import annotations

import inspect
import os
import sys
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from meshd.cli.lazy import Place, lazy_group
from meshd.cli.output import NO_ROOM, reason_of, say, tell_anyway
from meshd.cli.plain_values import convert_plain_values_here
from meshd.config import Config
from meshd.loaded import loading

LOOK, USE, OWN, TRY = "See what is", "Use the mesh", "Let others in, and run it for good", "Try and measure"
"""Headings of the commands."""

COMMANDS = {
    "chat": Place("meshd.cli.chat", "chat", USE),
    "plan": Place("meshd.cli.plan", "plan", USE),
    "call": Place("meshd.cli.call", "call", USE),
    "forms": Place("meshd.cli.forms", "forms", USE),
    "models": Place("meshd.cli.models", "app", USE),
    "blob": Place("meshd.cli.blob", "app", USE),
    "circuit": Place("meshd.cli.circuit", "app", USE),
    "demo": Place("meshd.cli.demo", "demo", TRY),
    "sim": Place("meshd.cli.sim", "sim", TRY),
    "bench": Place(
        *("meshd.cli.bench", "bench", TRY),
        settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    ),
    "poc": Place("meshd.cli.poc", "app", TRY),
    "leave": Place("meshd.cli.mesh", "leave", OWN),
    "install-service": Place("meshd.cli.install_service", "install_service", OWN),
    "token": Place("meshd.cli.token", "app", OWN),
    "key": Place("meshd.cli.key", "app", OWN),
    "mesh": Place("meshd.cli.mesh", "app", OWN),
    "status": Place("meshd.cli.status", "status", LOOK),
    "doctor": Place("meshd.cli.doctor", "doctor", LOOK),
    "config": Place("meshd.cli.config", "config", LOOK),
    "version": Place("meshd.cli.version", "version", LOOK),
}
"""In the order of the help. Each is loaded when it is typed, and all of them for the help itself."""

PANELS: dict[str, tuple[str, ...]] = {
    "Which mesh": ("join", "mesh", "name", "client", "bind", "advertise", "bulk", "no_mdns", "quorum"),
    "Models": (
        *("model", "lazy", "idle_ttl", "upstream", "split", "draft", "drafter"),
        *("ctx", "parallel", "kv_type", "threads", "engine", "vram_limit"),
    ),
    "API and console": (
        *("port", "listen", "console_port", "no_console", "api_key_file"),
        *("keyless_network", "unlimited_network", "allow_origin"),
    ),
    "bend": (
        *("bend_port", "http_port", "bend_listen", "bend_key_file", "no_bend"),
        *("bend_worker", "bend_worker_key_file", "blob_quota", "displace"),
    ),
    "Proof of compute": ("trust", "poc", "poc_period", "poc_seconds", "poc_preset"),
    "This node": ("data_dir", "config", "log_format", "log_level"),
}
"""Where `meshd --help` has each setting."""


def _run_options() -> list[inspect.Parameter]:
    """One option for each field of `Config`, so that its help is written once."""
    hints = typing.get_type_hints(Config, include_extras=True)
    config_file = Annotated[str, "the configuration file (default: meshd/meshd.toml in the user's config directory)"]
    order = [name for names in PANELS.values() for name in names]
    names = [*(entry.name for entry in fields(Config)), "config"]
    names.sort(key=lambda name: order.index(name) if name in order else -1)
    return [_option(name, (hints | {"config": config_file})[name]) for name in names]


def _option(name: str, annotated: Any) -> inspect.Parameter:
    kind, help_text = typing.get_args(annotated)
    kind = list[str] if typing.get_origin(kind) is tuple else kind
    spelled = "--" + name.replace("_", "-")
    panel = next((panel for panel, names in PANELS.items() if name in names), None)
    option = typer.Option(spelled, help=help_text, show_default=False, rich_help_panel=panel)
    declaration = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=declaration)


def _with_run_options(function: Callable[..., None]) -> Callable[..., None]:
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *_run_options()]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


app = typer.Typer(
    name="meshd",
    cls=lazy_group(COMMANDS),
    help="One pool from a handful of odd GPUs. Without a command: run this host's agent.",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
@_with_run_options
def _agent(context: typer.Context, **flags: Any) -> None:
    context.obj = flags
    if context.invoked_subcommand is None:
        with loading():
            from meshd.cli.run import run  # the whole agent: other commands do without

        run(flags, os.environ)


def main() -> None:
    """Run the command line. A file that a command cannot read or write ends it with one line, and exit code 1."""
    tell_anyway()
    convert_plain_values_here()
    try:
        app()
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            raise  # no file that a person named: a mistake of ours
        say(f"meshd: {reason_of(error)}")
        _forget_what_was_not_written()
        sys.exit(1)


def _forget_what_was_not_written() -> None:
    """Keep the interpreter from trying, and complaining, once more at its end."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
