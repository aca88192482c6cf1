"""bend's doors on this host: opens their ports before anything starts. What answers behind them is `bending`'s."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forms.blobs import FormBlobs
from forms.connection import Terms
from forms.form import FRAME_LIMIT
from forms.http_door import HttpDoor
from forms.operations import Operations
from forms.wire_door import WireDoor
from meshd.config import BEND_PORT, Config, is_loopback
from meshd.http_server import listen_tcp, serve_http
from meshd.keys import read_key_file
from meshd.logs import following
from meshd.ports import Door, PortTaken, naming_the_holder
from transport.address import format_address
from transport.interface import Address

logger = logging.getLogger("meshd.bend")


@dataclass(frozen=True, slots=True)
class BendDoors:
    """Sockets that are bound, and who may come in. keys: none on loopback unless some were given."""

    wire: socket.socket
    http: socket.socket
    keys: tuple[str, ...]
    origins: tuple[str, ...]
    is_local: bool

    def addresses(self) -> dict[str, str]:
        """By name, as status shows them."""
        return {
            "bend": format_address(_address(self.wire)),
            "bend-http": f"http://{format_address(_address(self.http))}",
        }

    def works(self, operations: Operations, blobs: FormBlobs) -> dict[str, Coroutine[Any, Any, None]]:
        """What serves them while the node runs."""
        terms = Terms(
            operations.catalogue,
            operations.answer_text,
            operations.answer_frame,
            operations.bend_frame,
            self.keys,
            blobs=blobs,
        )
        http = HttpDoor(operations.answer_text, FRAME_LIMIT, self.keys, self.origins, self.is_local, follow=following)
        return {
            "bend": WireDoor(terms).run(self.wire),
            "bend over HTTP": serve_http(http, self.http, asyncio.Event()),
        }


def open_bend(config: Config, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> BendDoors | None:
    """Bind bend's ports; None with --no-bend, or where somebody else has the usual ones.

    Raises PortTaken for ports that were asked for, OSError and ValueError for a key file that cannot be used.
    """
    if config.no_bend:
        return None
    keys = read_key_file(Path(config.bend_key_file).read_text()) if config.bend_key_file else ()
    try:
        wire = _listen(config.bend_listen, config.bend_port, "--bend-port {port}", stack)
        http_port = config.http_port or (wire.getsockname()[1] + 1 if config.bend_port else 0)
        http = _listen(config.bend_listen, http_port, "--http-port {port}", stack)
    except PortTaken as error:
        if config.bend_port != BEND_PORT or config.http_port:
            raise
        logger.warning("bend is off on this node: %s", error)
        return None
    return BendDoors(wire, http, keys, config.allow_origin, is_loopback(config.bend_listen))


def _listen(
    host: str, port: int, option: str, stack: contextlib.ExitStack | contextlib.AsyncExitStack
) -> socket.socket:
    with naming_the_holder(Door("tcp", host, port, option)):
        return stack.enter_context(listen_tcp(host, port))


def _address(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(host, port)
