"""A small OpenAI-compatible server in this process: lists models, repeats what it was sent, speaks and listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from meshd.http_server import listen_tcp, serve_http
from tests.ports import free_port

SOUND = bytes(range(256)) * 40


class FakeUpstream:
    """One server on one port, which may be ended and begun again. entries: of its model list."""

    def __init__(self, *models: str, key: str = "") -> None:
        self.entries: Any = [{"id": model, "object": "model"} for model in models]
        self.key = key
        self.asked: list[tuple[str, bytes]] = []
        self.port = free_port()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the context lasts."""
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/audio/speech", self._speak, methods=["POST"]),
            Route("/{path:path}", self._repeat, methods=["GET", "POST", "DELETE"]),
        ]
        accepting = asyncio.Event()
        with listen_tcp("127.0.0.1", self.port) as listener:
            async with asyncio.TaskGroup() as group:
                server = group.create_task(serve_http(Starlette(routes=routes), listener, accepting))
                await accepting.wait()
                yield
                server.cancel()

    async def _models(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "who are you"}}, 401)
        return JSONResponse({"object": "list", "data": self.entries})

    async def _speak(self, request: Request) -> Response:
        self.asked.append((request.url.path, await request.body()))
        return Response(SOUND, media_type="audio/wav")

    async def _repeat(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append((request.url.path, body))
        return JSONResponse({"path": request.url.path, "bytes": len(body)})

    def last_body(self) -> Any:
        """The JSON body of the last request."""
        return json.loads(self.asked[-1][1])
