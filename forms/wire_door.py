"""The wire door of bend: TCP on port 8320, text and frames mixed on one connection."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass

from forms.connection import Connection, Terms
from forms.errors import Busy
from forms.evaluate import error_line
from forms.inflow import READ_BYTES

MAX_CONNECTIONS = 256
CLOSING_S = 60.0
"""For the end of a last reply to be read."""


@dataclass(slots=True)
class WireDoor:
    """Serves connections on a listening socket. Each has its own task; one that is slow delays no other."""

    terms: Terms
    _open: int = 0

    async def run(self, listener: socket.socket) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                group.create_task(self._serve(reader, writer), name="wire client")

            server = await asyncio.start_server(accept, sock=listener, limit=READ_BYTES)
            try:
                await asyncio.Event().wait()
            finally:
                # Not `async with`: since Python 3.12 that waits for the clients, whom the group only ends after it.
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                writer.write(error_line(Busy(f"{MAX_CONNECTIONS} connections are open on this door already")))
            else:
                await Connection(self.terms, reader, writer).serve()
            writer.close()
            with suppress(
                OSError
            ):  # TimeoutError is one, and what a reset socket says (ENOTCONN) need be no other kind
                async with asyncio.timeout(CLOSING_S):
                    await writer.wait_closed()
        finally:
            self._open -= 1
            writer.transport.abort()  # or what nobody reads would stay for as long as nobody reads it
