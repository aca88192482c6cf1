"""An ASGI app on a real loopback port for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from starlette.types import ASGIApp

from meshd.http_server import listen_tcp, serve_http


@contextlib.asynccontextmanager
async def served(app: ASGIApp, listener: socket.socket | None = None) -> AsyncIterator[int]:
    """Serve `app`; yields the port (0 for a Unix socket)."""
    listener = listener or listen_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1] if listener.family == socket.AF_INET else 0
    accepting = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        server = group.create_task(serve_http(app, listener, accepting))
        async with asyncio.timeout(60):
            await accepting.wait()
        try:
            yield port
        finally:
            server.cancel()
