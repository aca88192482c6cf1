"""The console's door: its listening socket, and what runs behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from meshd.bender import Bender
from meshd.config import CONSOLE_PORT, Config
from meshd.console.app import Parts, console_app
from meshd.console.feed import Feed
from meshd.control import Command
from meshd.http_server import listen_tcp, serve_http
from meshd.ingress import Ingress
from meshd.metrics.telemetry import Telemetry
from meshd.origin_guard import OriginGuard
from meshd.ports import Door, PortTaken, naming_the_holder
from meshd.status import Situation, build_status
from transport.address import format_address
from transport.interface import Address

logger = logging.getLogger("meshd.console")


def open_console(config: Config, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> socket.socket | None:
    """Bind the console's port; None with --no-console, or where somebody else has the usual one.

    Raises PortTaken for a port that was asked for.
    """
    if config.no_console:
        return None
    try:
        with naming_the_holder(Door("tcp", config.listen, config.console_port, "--console-port {port}")):
            return stack.enter_context(listen_tcp(config.listen, config.console_port))
    except PortTaken as error:
        if config.console_port != CONSOLE_PORT:
            raise
        logger.warning("the console is off on this node: %s", error)
        return None


@dataclass(frozen=True, slots=True)
class ConsoleDoor:
    """is_local: it listens on loopback only."""

    listener: socket.socket
    ingress: Ingress
    is_local: bool

    def works(
        self,
        situation: Callable[[], Situation],
        telemetry: Telemetry,
        commands: Mapping[str, Command],
        api: ASGIApp,
        waits: Sequence[Callable[[], Awaitable[object]]],
        bender: Bender,
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs while the node does. waits: each returns when something that pages show may have changed."""
        activity = telemetry.activity.as_json
        feed = Feed({"status": lambda: _lasting(build_status(situation())), "activity": activity}, waits)
        reads = {"status": lambda: build_status(situation()), "activity": activity}
        app = console_app(Parts(self.ingress, reads, feed, commands, telemetry.registry, api, bender.answer))
        guarded = OriginGuard(app, is_local=self.is_local, admits_local_pages=False)
        return {"console": serve_http(guarded, self.listener, asyncio.Event()), "console feed": feed.run()}


def _lasting(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what differs at every look."""
    del status["node"]["uptime_s"]
    return status


def url_of(listener: socket.socket) -> str:
    """As a person types it into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://{format_address(Address(host, port))}"
