"""`meshd demo`: the whole of meshd on this machine in one command."""

from __future__ import annotations

from typing import Annotated

import typer

from meshd.cli.output import JsonFlag
from transport.impairment import parse_conditions


def _checked(impair: str) -> str:
    try:
        parse_conditions(impair)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return impair


def demo(
    nodes: Annotated[int, typer.Option(min=2, max=16, help="agents to start: a host, members, a lite client")] = 3,
    impair: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="bad ways between them, all over UDP: delay=40ms,loss=5%,rate=10mbit",
            callback=_checked,
        ),
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="stop after the answer")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start real agents on this machine (host, member, lite client) and ask one chat through the client."""
    from meshd.cli.demo_show import show_demo

    show_demo(nodes, impair, once, as_json)
