"""The console's routes: its page, what the page shows, what it may have done, `/metrics`, and the API under `/v1`.

Reading wants a key where the API does; acting on this node wants one that was made with `--admin`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forms.http_door import ID_HEADER
from forms.request import Request as FormRequest
from llm.errors import RequestFailed
from meshd.api import key_in
from meshd.bender import Bent
from meshd.console.feed import Feed, TooManyReaders
from meshd.control import Command, CommandFailed
from meshd.control_app import command_arguments
from meshd.ingress import Ingress
from meshd.logs import following

STATIC = Path(__file__).with_name("static")
ACTIONS = frozenset(
    {"model_load", "model_unload", "model_pull", "model_remove", "leave"}
    | {"token_create", "token_list", "token_revoke", "token_requests", "token_accept", "token_refuse"}
)
"""Control commands that a page may send. Root keys and revocations are the command line's alone."""
QUESTIONS = frozenset({"plan", "models"})
MAX_BEND_BYTES = 1 << 20

SAFE_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the console stands on. reads: JSON objects by the name of their route.  bend: answers a datum of text; None
    where bend is closed.
    """

    ingress: Ingress
    reads: Mapping[str, Callable[[], Any]]
    feed: Feed
    commands: Mapping[str, Command]
    registry: CollectorRegistry
    api: ASGIApp
    bend: Callable[[FormRequest], Awaitable[Bent]] | None


def console_app(parts: Parts) -> ASGIApp:
    """The ASGI application."""
    routes = _Routes(parts)
    commands = [
        Route(f"/api/{name}", routes.command(name, command), methods=["POST"])
        for name, command in parts.commands.items()
        if name in ACTIONS | QUESTIONS
    ]
    reads = [Route(f"/api/{name}", routes.read(read), methods=["GET"]) for name, read in parts.reads.items()]
    app = Starlette(
        routes=[
            *reads,
            *commands,
            Route("/api/events", routes.events, methods=["GET"]),
            Route("/api/bend", routes.bend, methods=["POST"]),
            Route("/metrics", routes.metrics, methods=["GET"]),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(_SafeHeaders)],
        exception_handlers={RequestFailed: _refused, CommandFailed: _failed, TooManyReaders: _full},
    )

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["path"].startswith("/v1/")
        await (parts.api if is_api else app)(scope, receive, send)

    return dispatch


@dataclass(frozen=True, slots=True)
class _Routes:
    parts: Parts

    def read(self, read: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._admit(request)
            return JSONResponse(read())

        return answer

    def command(self, name: str, command: Command) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._admit(request, is_action=name in ACTIONS)
            if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                raise CommandFailed("expected application/json")
            return JSONResponse(await command(await command_arguments(request)))

        return answer

    async def events(self, request: Request) -> Response:
        self._admit(request)
        headers = {"cache-control": "no-store"}
        return StreamingResponse(self.parts.feed.events(), media_type="text/event-stream", headers=headers)

    async def bend(self, request: Request) -> Response:
        """One datum of text to bend, and its reply."""
        self._admit(request)
        if self.parts.bend is None:
            raise CommandFailed("this node has no forms")
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BEND_BYTES:
            raise CommandFailed(
                f"expected one call of at most {MAX_BEND_BYTES >> 20} MiB; larger ones go to bend itself"
            )
        with following(request.headers.get(ID_HEADER, "")) as request_id:
            bent = await self.parts.bend(FormRequest(True, (await request.body()).strip()))
        headers = bent.headers | {ID_HEADER: request_id}
        return Response(bent.done.reply, headers=headers, media_type="text/plain; charset=utf-8")

    async def metrics(self, request: Request) -> Response:
        self._admit(request)
        return Response(generate_latest(self.parts.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    def _admit(self, request: Request, *, is_action: bool = False) -> None:
        host = request.client.host if request.client is not None else None
        given = key_in(request.headers)
        if is_action:
            self.parts.ingress.check_admin(given)
        else:
            self.parts.ingress.identify(given, host)


@dataclass(frozen=True, slots=True)
class _SafeHeaders:
    """Puts what keeps a page harmless on every answer."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *SAFE_HEADERS]}
            await send(message)

        await self.app(scope, receive, with_headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestFailed)
    headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else None
    return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=409)


def _full(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=503, headers={"retry-after": "5"})
