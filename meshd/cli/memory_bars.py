"""The memory of nodes as `meshd status` draws it: a bar for each device, its parts in the order of their names."""

from __future__ import annotations

from typing import Any

USES = {"weights": "models", "kv": "KV", "forms": "forms", "rest": "work areas", "other": "other programs"}
STYLES = {"weights": "blue", "kv": "magenta", "forms": "green", "rest": "yellow", "other": "bright_black"}
MARKS = {"weights": "█", "kv": "▓", "forms": "▚", "rest": "▒", "other": "░"}
FREE = "·"
BAR_WIDTH = 24
LEAST_GB = 0.0005


def memory_table(status: dict[str, Any]) -> Any:
    """A line for each device that a living node offers, this one's first; None where there is none."""
    from rich.table import Table

    nodes = [(status["node"]["name"], status["memory"] if status["node"]["role"] != "client" else [])]
    nodes += [(peer["name"], peer["memory"]) for peer in status["peers"]]
    table = Table(
        "node",
        "device",
        "",
        "held, and free of all",
        title="memory, as each node says; none of it is attested",
        title_justify="left",
    )
    for name, devices in nodes:
        for device in devices:
            table.add_row(name, device["name"], bar(device), words(device))
    return table if table.rows else None


def bar(device: dict[str, Any]) -> Any:
    """`BAR_WIDTH` wide: what is held for each use, what other programs hold, what is free."""
    from rich.text import Text

    text, total = Text(), device["total_gb"] or 1.0
    for use, size in _parts(device).items():
        # A part that is there is seen, however small; the last ones give way.
        width = min(max(1, round(BAR_WIDTH * size / total)), BAR_WIDTH - len(text))
        text.append(MARKS[use] * width, STYLES[use])
    return text.append(FREE * (BAR_WIDTH - len(text)))


def words(device: dict[str, Any]) -> str:
    """The same in figures, for who sees no bars."""
    parts = [f"{USES[use]} {size_words(size)}" for use, size in _parts(device).items()]
    return ", ".join([*parts, f"free {device['free_gb']:.1f} of {device['total_gb']:.1f} GB"])


def size_words(size_gb: float) -> str:
    """Gigabytes, and megabytes below a tenth of one."""
    return f"{1024 * size_gb:.0f} MB" if size_gb < 0.1 else f"{size_gb:.1f} GB"


def _parts(device: dict[str, Any]) -> dict[str, float]:
    held = device["uses"] | {"other": device["other_gb"]}
    return {use: held[use] for use in USES if held.get(use, 0) > LEAST_GB}
