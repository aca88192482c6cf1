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

import meshd
from meshd.cli import (
    bench,
    blob,
    call,
    chat,
    circuit,
    demo,
    doctor,
    install_service,
    key,
    mesh,
    models,
    plan,
    poc,
    sim,
    status,
    token,
)
from meshd.cli import config as config_command
from meshd.cli import forms as forms_command
from meshd.cli.output import NO_ROOM, JsonFlag, print_json, reason_of, say, tell_anyway
from meshd.config import Config

LOOK, USE, OWN, TRY = "See what is", "Use the mesh", "Let others in, and run it for good", "Try and measure"
"""Headings of the commands."""

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
    help="One pool from a handful of odd GPUs. Without a command: run this host's agent.",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="models", rich_help_panel=USE)
app.command(rich_help_panel=USE)(chat.chat)
app.command(rich_help_panel=USE)(plan.plan)
app.command(rich_help_panel=USE)(call.call)
app.command(rich_help_panel=USE)(forms_command.forms)
app.add_typer(blob.app, name="blob", rich_help_panel=USE)
app.add_typer(circuit.app, name="circuit", rich_help_panel=USE)
app.command(rich_help_panel=TRY)(demo.demo)
app.command(rich_help_panel=TRY)(sim.sim)
app.add_typer(poc.app, name="poc", rich_help_panel=TRY)
app.command(
    rich_help_panel=TRY,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(bench.bench)
app.add_typer(token.app, name="token", rich_help_panel=OWN)
app.add_typer(key.app, name="key", rich_help_panel=OWN)
app.add_typer(mesh.app, name="mesh", rich_help_panel=OWN)
app.command(rich_help_panel=OWN)(mesh.leave)
app.command(rich_help_panel=OWN)(install_service.install_service)
app.command(rich_help_panel=LOOK)(status.status)
app.command(rich_help_panel=LOOK)(doctor.doctor)
app.command(rich_help_panel=LOOK)(config_command.config)


@app.command(rich_help_panel=LOOK)
def version(as_json: JsonFlag = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": meshd.__version__})
    else:
        print(meshd.__version__)


@app.callback(invoke_without_command=True)
@_with_run_options
def _agent(context: typer.Context, **flags: Any) -> None:
    context.obj = flags
    if context.invoked_subcommand is None:
        from meshd.cli.run import run  # the whole agent: other commands do without

        run(flags, os.environ)


def main() -> None:
    """Run the command line. A file that a command cannot read or write ends it with one line, and exit code 1."""
    tell_anyway()
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
