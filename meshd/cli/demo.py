"""`meshd demo`: the whole of meshd on this machine in one command."""

from __future__ import annotations

from typing import Annotated

import typer

from meshd.cli.output import JsonFlag


def demo(
    nodes: Annotated[int, typer.Option(min=2, max=16, help="agents to start: a host, members, a lite client")] = 3,
    once: Annotated[bool, typer.Option("--once", help="stop after the answer")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start real agents on this machine (host, member, lite client) and ask one chat through the client."""
    from meshd.cli.demo_show import show_demo

    show_demo(nodes, once, as_json)
