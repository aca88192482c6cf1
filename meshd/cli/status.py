"""`meshd status`: who is in the mesh, who hosts what, and how far away they are."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer

from meshd.cli.memory_bars import memory_table, size_words
from meshd.cli.output import JsonFlag, page, print_json
from meshd.cli.running import DataDirOption, call, data_dir

SHOWN_DEEDS = 8


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="show it every second until Ctrl-C; --json: an object a line")
    ] = False,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show the mesh as this node sees it."""
    agent = data_dir(directory)
    if watch and as_json:
        _repeat(lambda: print(json.dumps(call(agent, "status")), flush=True))
    elif watch:
        _watch(lambda: _live_page(call(agent, "status"), call(agent, "activity")["deeds"]))
    elif as_json:
        print_json(call(agent, "status"))
    else:
        _show(call(agent, "status"))


def _show(status: dict[str, Any]) -> None:
    page().print(_page(status))


def _watch(read: Callable[[], Any]) -> None:
    """Show what `read` gives every second: in its place on a terminal, page after page elsewhere."""
    from rich.live import Live

    if not os.isatty(1):
        _repeat(lambda: page().print(read()))
        return
    read()  # who cannot be asked is told of on the screen that stays
    with Live(console=page(), screen=True, auto_refresh=False) as live:
        _repeat(lambda: live.update(read(), refresh=True))  # the first page, too: Ctrl-C ends whatever is seen


def _repeat(show: Callable[[], None]) -> None:
    """Every second until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        while True:
            show()
            time.sleep(1)


def _page(status: dict[str, Any]) -> Any:
    from rich.console import Group

    node, mesh = status["node"], status["mesh"]
    host = ", hosting" if status["host"] else ""
    head = f"{node['name']} ({node['id'][:8]}), {node['role']}{host}, in mesh {mesh['name']}"
    memory = f"{status['vram_total_gb']:.1f} GB for models in the mesh, clients not counted"
    places = {**status["doors"], "mDNS": _mdns(status["mdns"])}
    width = max(map(len, places))
    doors = "\n".join(f"{name:<{width}}  {address}" for name, address in places.items())
    return Group(
        head,
        memory,
        doors,
        "",
        _peers(status),
        *_memory(status),
        *_proofs(status),
        "",
        _models(status),
        *_with_gap([*_sessions(status["sessions"]), *_drafting(status["drafting"])]),
        *_downloads(status["downloads"]),
        *_leases(status["leases"]),
    )


def _memory(status: dict[str, Any]) -> list[Any]:
    table = memory_table(status)
    return ["", table] if table is not None else []


def _with_gap(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _sessions(kept: list[dict[str, Any]]) -> list[str]:
    """A line for each model that has sessions here."""
    return [
        f"sessions of {one['model']}: {one['open']} open, {one['resident']} in memory with "
        f"{one['live_bytes'] / 1e6:.1f} MB, {one['parked']} parked with {one['parked_bytes'] / 1e6:.1f} MB; "
        f"{one['active']} answered now{_bounded(one['bounded'])}"
        for one in kept
    ]


def _bounded(count: int) -> str:
    """What those are, wherever they are counted."""
    return f"; {count} bounded: they recall what a search finds, and do not answer as full attention would" * bool(
        count
    )


def _drafting(drafting: dict[str, Any]) -> list[str]:
    """A line for each model of this node that something drafts for, here or on another host."""
    lines = [f"{one['drafter']} drafts for {one['model']}: {one['reason']}{_accepted(one)}" for one in drafting["here"]]
    return lines + [
        f"{one['drafter']} on {one['node']} drafts for {one['model']}: {one['state']}; {one['reason']}"
        for one in drafting["models"]
    ]


def _accepted(one: dict[str, Any]) -> str:
    return f"; {one['accepted']} of {one['drafted']} tokens accepted" if one["drafted"] else ""


def _live_page(status: dict[str, Any], deeds: list[dict[str, Any]]) -> Any:
    from rich.console import Group

    head = f"{time.strftime('%H:%M:%S')}   Ctrl-C ends this"
    return Group(head, _page(status), "", *_holders(status["memory"]), "", _deeds(deeds[:SHOWN_DEEDS]))


def _holders(devices: list[dict[str, Any]]) -> list[str]:
    """Who holds how much of each of this node's devices, a line each."""
    return [
        f"{device['name']}: {one['holder']} {size_words(one['gb'])}" for device in devices for one in device["held"]
    ]


def _deeds(deeds: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("what", "where", "outcome", "first", "in all", "tokens", title="now and lately", title_justify="left")
    for deed in deeds:
        seconds = ["" if value is None else f"{value:.2f} s" for value in (deed["first_s"], deed["seconds"])]
        table.add_row(deed["what"], deed["where"], deed["outcome"], *seconds, str(deed["tokens"] or ""))
    return table


def _downloads(downloads: list[dict[str, Any]]) -> list[str]:
    """What is on its way here, a line each; nothing where there is none."""
    return _with_gap([f"{one['name'] or one['wanted']}: {one['state']}: {one['reason']}" for one in downloads])


def _mdns(mdns: dict[str, Any]) -> str:
    found = [f"another mesh at {' and '.join(addresses)}" for addresses in mdns["other_meshes"]]
    return ", ".join([" ".join(filter(None, (mdns["state"], mdns["problem"]))), *found])


def _leases(leases: dict[str, Any]) -> list[str]:
    """What is held, granted and voted on, a line each; nothing where there is none."""
    lines = [
        f"{one['worker']} works for {one['resource']} under this node's lease, term {one['term']}"
        for one in leases["held"]
        if one["purpose"] == "work"
    ]
    lines += [
        f"this node works for {one['resource']} under a lease of {one['host']}, term {one['term']}"
        for one in leases["granted"]
        if one["purpose"] == "work"
    ]
    lines += [
        f"{one['granted']} of {one['members']} members agree that this node leads {one['resource']}, "
        f"{one['needed']} have to"
        for one in leases["quorum"]
    ]
    return ["", *lines, leases["problem"]] if lines or leases["problem"] else []


def _peers(status: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("peer", "id", "role", "does", "state", "rtt ms", "carrier", title="peers", title_justify="left")
    for peer in status["peers"]:
        rtt = "" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.1f}"
        table.add_row(
            peer["name"], peer["id"][:8], peer["role"], peer["duty"], peer["state"], rtt, peer["carrier"] or ""
        )
    return table


def _proofs(status: dict[str, Any]) -> list[str]:
    """What was proved of nodes' speed, a line each; nothing where there is nothing to say."""
    nodes = [(one["name"], one["poc"]) for one in (status["node"], *status["peers"])]
    lines = [f"{name}: {words}" for name, poc in nodes if (words := _proof_words(poc))]
    return ["", *lines, "proofs are of speed; no figure for VRAM is attested"] if lines else []


def _proof_words(poc: dict[str, Any]) -> str:
    words = [f"in quarantine: {poc['quarantine']}"] if poc["quarantine"] else []
    if poc["attested_tflops"] is not None:
        by = ", ".join(poc["by"])
        words.append(f"{poc['attested_tflops']:.3g} TFLOP/s or more, proved {poc['age_s']} s ago to {by}")
        words += [f"believed at {poc['believed']:.0%} of its claims"] if poc["believed"] < 1 else []
    if poc["accused_by"]:
        words.append(f"called a cheat by {', '.join(poc['accused_by'])}")
    if poc["phase"] != "idle":
        words.append(f"its proof: {poc['phase']}")
    return "; ".join(words)


def _models(status: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("model", "host", "mode", "state", "in flight", "why", title="models", title_justify="left")
    for model in status["models"]:
        row = (model["name"], model["host"], model["mode"], model["state"], str(model["in_flight"]), model["reason"])
        table.add_row(*row)
    return table
