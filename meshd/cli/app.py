"""The `meshd` command: without a subcommand it runs the agent."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import fields
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
from meshd.cli.output import JsonFlag, print_json
from meshd.config import Config


def _run_options() -> list[inspect.Parameter]:
    """One option for each field of `Config`, so that its help is written once."""
    hints = typing.get_type_hints(Config, include_extras=True)
    config_file = Annotated[str, "the configuration file (default: meshd/meshd.toml in the user's config directory)"]
    return [*(_option(entry.name, hints[entry.name]) for entry in fields(Config)), _option("config", config_file)]


def _option(name: str, annotated: Any) -> inspect.Parameter:
    kind, help_text = typing.get_args(annotated)
    kind = list[str] if typing.get_origin(kind) is tuple else kind
    spelled = "--" + name.replace("_", "-")
    declaration = Annotated[kind | None, typer.Option(spelled, help=help_text, show_default=False)]  # type: ignore[valid-type]
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
app.add_typer(token.app, name="token")
app.add_typer(key.app, name="key")
app.add_typer(mesh.app, name="mesh")
app.add_typer(models.app, name="models")
app.add_typer(circuit.app, name="circuit")
app.add_typer(blob.app, name="blob")
app.add_typer(poc.app, name="poc")
app.command()(forms_command.forms)
app.command()(chat.chat)
app.command()(demo.demo)
app.command()(call.call)
app.command()(status.status)
app.command()(plan.plan)
app.command()(doctor.doctor)
app.command()(install_service.install_service)
app.command()(sim.sim)
app.command()(mesh.leave)
app.command()(config_command.config)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    bench.bench
)


@app.command()
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
    """Run the command line."""
    app()
