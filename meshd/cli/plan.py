"""`meshd plan`: how the mesh could serve a model, how fast each way would be, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llm.figure import figure
from meshd.cli.output import JsonFlag, fail, page, print_json
from meshd.cli.running import DataDirOption, data_dir
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.datadir import DataDir

PLAN_TIMEOUT_S = 180.0
"""A model that is elsewhere is looked for first."""


def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME|hf:…", help="a GGUF file, a model of the mesh, or one of the hub", show_default=False
        ),
    ],
    split: Annotated[bool, typer.Option("--split", help="split it, also where one node could serve it alone")] = False,
    ctx: Annotated[int, typer.Option("--ctx", min=0, help="context in tokens a slot (0: as the agent would)")] = 0,
    parallel: Annotated[int, typer.Option("--parallel", min=1, max=256, help="requests answered at once")] = 4,
    kv_type: Annotated[Literal["f16", "q8_0", "q4_0"], typer.Option("--kv-type", help="type of the KV cache")] = "f16",
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show each way to serve a model: memory, speed and reason. Without a running agent, of this host alone."""
    arguments = {**which(model), "ctx": ctx, "parallel": parallel, "kv_type": kv_type, "split": split}
    try:
        found = _ask(data_dir(directory), arguments)
    except CommandFailed as failure:
        fail(str(failure))
    if as_json:
        print_json(found)
    else:
        _show(found)


def which(model: str) -> dict[str, str]:
    """A file by its path, all else by its name."""
    path = Path(model).expanduser()
    is_file = not model.startswith("hf:") and (path.is_file() or model.endswith(".gguf"))
    return {"path": str(path.resolve())} if is_file else {"model": model}


def _ask(directory: DataDir, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return ControlClient(directory.control_socket, PLAN_TIMEOUT_S).call("plan", **arguments) | {"asked": "mesh"}
    except NotRunning:
        import msgspec

        from meshd.planning import PlanRequest, plan_offline

        return plan_offline(directory, msgspec.convert(arguments, PlanRequest)) | {"asked": "this host alone"}


ITEMS = {
    "weights": "weights",
    "cache": "cache",
    "compute": "compute",
    "output": "output",
    "kept": "conversations without a slot",
    "margin": "margin",
}


def _show(found: dict[str, Any]) -> None:
    console = page()
    memory = found["memory"]
    console.print(
        f"{found['model']}: {found['slots']} slots of {found['context_tokens']} tokens; asked: {found['asked']}"
    )
    items = " + ".join(f"{word} {memory[f'{name}_gb']:.3g}" for name, word in ITEMS.items() if memory[f"{name}_gb"])
    console.print(f"alone it takes {memory['total_gb']:.3g} GB: {items}\n")
    console.print(_table(found["choices"]))
    for choice in found["choices"]:
        if choice["basis"]:
            console.print(f"{choice['kind']} on {_names(choice)}: {choice['basis']}")
    console.print(f"drafts: {found['drafts']}")
    for row in found["far_drafts"]:
        console.print(f"drafts of another host: {row}")


def _table(choices: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("", "choice", "nodes: layers, needed of free GB", "tokens/s (interval)", "why")
    for choice in choices:
        nodes = "\n".join(
            f"{node['name']}: {node['layers']}, {node['needed_gb']:.3g} of {node['free_gb']:.3g}"
            for node in choice["nodes"]
        )
        speed = choice["tokens_per_s"]
        rate = f"{figure(speed['likely'])} ({figure(speed['low'])} to {figure(speed['high'])})" if speed else "-"
        mark = "advised" if choice["advised"] else "" if choice["possible"] else "no"
        table.add_row(mark, choice["kind"], nodes, rate, choice["reason"])
    return table


def _names(choice: dict[str, Any]) -> str:
    return " + ".join(node["name"] for node in choice["nodes"])
