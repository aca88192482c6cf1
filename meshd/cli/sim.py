"""`meshd sim`: the mesh's gossip under a virtual clock, as figures or under random faults."""

from __future__ import annotations

from typing import Annotated

import typer

from meshd.cli.output import JsonFlag


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected numbers with commas between them, got {text!r}") from None


def read_nodes(text: str) -> list[int]:
    """`10,50` as sizes of meshes. typer.BadParameter for what no mesh can have."""
    sizes = _numbers(text)
    if any(not size.is_integer() or not 2 <= size <= 500 for size in sizes):
        raise typer.BadParameter(f"a simulated mesh has 2 to 500 nodes, got {text!r}")
    return [int(size) for size in sizes]


def read_losses(text: str) -> list[float]:
    """`0,5,30` in per cent, or `0.05` as a share. typer.BadParameter for 60 % and more, at which nothing works."""
    losses = [loss if loss < 1 else loss / 100 for loss in _numbers(text)]
    if any(not 0 <= loss < 0.6 for loss in losses):
        raise typer.BadParameter(f"loss is 0 to 59 per cent, or a share like 0.05, got {text!r}")
    return losses


def sim(
    nodes: Annotated[str, typer.Option(metavar="N,N", help="sizes of meshes (default 10,50)")] = "",
    loss: Annotated[str, typer.Option(metavar="%,%", help="datagrams lost, per cent (or shares: 0.05)")] = "0,5,20,30",
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="crashes and facts for each line")] = 10,
    seed: Annotated[int, typer.Option(help="where all dice come from; the same seed does the same")] = 1,
    rtt: Annotated[float, typer.Option(min=0.1, max=2000, metavar="MS", help="round trip between nodes")] = 20.0,
    hours: Annotated[
        float, typer.Option(min=0.01, help="quiet node-hours for each line, to see whom it slanders")
    ] = 1.0,
    hints: Annotated[
        bool, typer.Option("--hints", help="let connections that fall silent count, as in real life")
    ] = False,
    png: Annotated[str, typer.Option(metavar="FILE", help="draw detection and convergence (needs matplotlib)")] = "",
    schedules: Annotated[
        int,
        typer.Option(min=0, metavar="COUNT", help="no figures: so many random schedules of faults, every rule checked"),
    ] = 0,
    trace: Annotated[
        bool, typer.Option("--trace", help="with --schedules: the faults and last events of each")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Simulate meshes with the real gossip code under a virtual clock: how soon deaths and facts are known to all."""
    sizes, losses = read_nodes(nodes) if nodes else [], read_losses(loss)
    from meshd.cli import sim_show

    if schedules:
        sim_show.show_schedules(range(seed, seed + schedules), sizes[0] if sizes else None, trace, as_json)
        return
    plans = sim_show.plans(
        sizes or [10, 50], losses, trials=trials, seed=seed, rtt_ms=rtt, node_hours=hours, with_hints=hints
    )
    sim_show.show_figures(plans, png, as_json)
