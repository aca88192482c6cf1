"""The OpenAI door: `/v1/models`, `/health`, and every other path passed through to the model it names.

A request is read for its model only; the body goes to the engine and the answer comes back untouched.
Errors are OpenAI-shaped. A client that leaves cancels its request wherever it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.types import Receive, Scope, Send

from llm.chat import MAX_BODY_BYTES
from llm.client import Answer, Router
from llm.engines.interface import Headers, Request
from llm.errors import BodyTooLarge, RequestFailed, UnknownModel
from llm.openai import (
    MODEL_HEADER,
    TIMEOUT_HEADER,
    check_headers,
    error_response,
    read_request,
    read_timeout_s,
    sse_error_event,
)
from llm.sessions.names import in_path, model_of, path_of, read_name
from meshd import http_exchange
from meshd.arrivals import until_here
from meshd.bringing import Bringing
from meshd.http_exchange import ClientLeft, send_body, send_head, send_whole, until_client_leaves
from meshd.ingress import Ingress
from meshd.logs import following
from meshd.metrics.requests import Measured, RequestMeter, unread_meter
from meshd.progress import Progress
from transport.identity import short

logger = logging.getLogger("meshd.api")

REQUEST_BUDGET_S = 3600.0
"""A request without a deadline of its own ends after this long, whatever holds it up."""

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "host", "content-length", "authorization", "x-api-key", "accept-encoding"}
)


class NoSuchPath(RequestFailed):
    """A path that names no model and that this door does not answer itself."""

    status = 404
    kind = "invalid_request_error"
    code = "not_found"


def nothing_comes(model: str) -> Bringing | None:
    """For nodes that bring no models."""
    return None


@dataclass(frozen=True, slots=True)
class Api:
    """The ASGI application. models, health: what `GET /v1/models` and `GET /health` answer now.

    coming: a model that is being brought here; None for any other.
    """

    router: Router
    ingress: Ingress
    models: Callable[[], dict[str, Any]]
    health: Callable[[], tuple[bool, dict[str, Any]]]
    coming: Callable[[str], Bringing | None] = nothing_comes
    meter: RequestMeter = field(default_factory=unread_meter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange; nothing but a client's leaving ends it without an answer."""
        assert scope["type"] == "http"
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        with following(given) as request_id:
            exchange = _Exchange(self, scope, receive, send, request_id)
            try:
                await exchange.run()
            except ClientLeft:
                logger.debug("the client left")
            except RequestFailed as error:
                logger.info("%s %s: %d %s", scope["method"], scope["path"], error.status, error)
                self.meter.refused(error)
                response = error_response(error, exchange.request_id, scope["path"])
                await send_whole(send, response.status, response.headers, response.body)


@dataclass(slots=True)
class _Exchange:
    api: Api
    scope: Scope
    receive: Receive
    send: Send
    request_id: str

    async def run(self) -> None:
        """Answer, or raise RequestFailed before anything of an answer is sent."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}
        match (self.scope["method"], self.scope["path"]):
            case ("GET", "/health"):
                healthy, detail = self.api.health()
                await self._answer_json(200 if healthy else 503, detail)
            case ("GET", "/v1/models" | "/models"):
                self.api.ingress.identify(key_in(headers), self._host)
                await self._answer_json(200, self.api.models())
            case _:
                key = self.api.ingress.identify(key_in(headers), self._host)
                end = self.api.ingress.begin(key, self._host, asyncio.get_running_loop().time())
                try:
                    await self._pass_through(headers)
                finally:
                    end()

    @property
    def _host(self) -> str | None:
        """Where the request came from."""
        client = self.scope.get("client")
        return client[0] if client else None

    async def _answer_json(self, status: int, answer: dict[str, Any]) -> None:
        headers = (("content-type", "application/json"), ("x-request-id", self.request_id))
        await send_whole(self.send, status, headers, json.dumps(answer).encode())

    async def _pass_through(self, headers: dict[str, str]) -> None:
        try:
            body = await http_exchange.read_body(self.scope, self.receive, MAX_BODY_BYTES)
        except http_exchange.BodyTooLarge as error:
            raise BodyTooLarge(error.limit_bytes) from error
        request, is_stream = self._request(headers, body)
        measured = self.api.meter.begin(request.model, self.scope["path"], self.request_id)
        try:
            await until_client_leaves(self.receive, lambda: self._relay(request, measured, is_stream=is_stream))
        except RequestFailed as error:
            measured.failed(error)
            raise
        finally:
            measured.end()
            deed = measured.deed
            where = f" from {deed.where}" if deed.where else ""
            logger.info("%s for %s: %s%s in %.2f s", request.path, request.model, deed.outcome, where, deed.seconds)

    def _request(self, headers: dict[str, str], body: bytes) -> tuple[Request, bool]:
        method, path = self.scope["method"], _full_path(self.scope)
        content_type = headers.get("content-type", "")
        facts = read_request(method, path, content_type, body, model_header=headers.get(MODEL_HEADER))
        kept: Headers = tuple((name, value) for name, value in headers.items() if name not in HOP_BY_HOP)
        check_headers(kept)
        budget_s = read_timeout_s(headers.get(TIMEOUT_HEADER), REQUEST_BUDGET_S)
        if session := in_path(path) or facts.session:
            name = read_name(session)
            model = model_of(name, [entry["id"] for entry in self.api.models()["data"]])
            path = path_of(name, path, facts.model, model)
            caller = _caller(headers)
            request = Request(self.request_id, model, method, path, kept, body, budget_s, caller, name.node)
            return request, facts.stream
        if facts.model is None and method in ("GET", "HEAD"):
            where = f"{method} {self.scope['path']}"
            raise NoSuchPath(f"no such path here: {where}; to ask a model's engine, name the model with ?model=NAME")
        known = [] if facts.model else [entry["id"] for entry in self.api.models()["data"]]
        model = facts.required_model(known)
        request = Request(self.request_id, model, method, path, kept, body, budget_s, _caller(headers))
        return request, facts.stream

    async def _relay(self, request: Request, measured: Measured, *, is_stream: bool) -> None:
        progress = Progress(self.send, (("x-request-id", self.request_id),))
        try:
            answer = await self._answer(replace(request, on_progress=progress.note), progress if is_stream else None)
        except RequestFailed as error:
            if not progress.has_begun:
                raise
            measured.failed(error)
            await send_body(self.send, sse_error_event(error, self.request_id, request.path), more=False)
            return
        node = answer.node_name or short(answer.node)
        measured.answered(answer.status, node, answer.mode, is_stream=_is_event_stream(answer.headers))
        try:
            if progress.has_begun and not _is_event_stream(answer.headers):
                await self._relay_as_event(answer)
                return
            if not progress.has_begun:
                await send_head(self.send, answer.status, self._headers_of(answer))
            await self._relay_body(answer, request, measured)
        finally:
            await answer.close()

    async def _relay_as_event(self, answer: Answer) -> None:
        """An engine's refusal, in the stream that has begun already."""
        body = b"".join([chunk async for chunk in answer.chunks()])
        await send_body(self.send, b"data: " + b" ".join(body.splitlines()) + b"\n\n", more=False)

    async def _answer(self, request: Request, progress: Progress | None) -> Answer:
        """The answer's head; a client that asked for a stream is told of progress meanwhile. Raises RequestFailed."""
        if progress is None:
            return await self._route(request, is_told=False)
        failure: RequestFailed | None = None
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(progress.tell(), name="tell progress")
            try:
                answer = await self._route(request, is_told=True)
            except RequestFailed as error:
                failure = error
            finally:
                telling.cancel()
        if failure is not None:
            raise failure
        return answer

    async def _route(self, request: Request, *, is_told: bool) -> Answer:
        """Raises RequestFailed."""
        try:
            return await self.api.router.answer(request)
        except UnknownModel:
            coming = self.api.coming(request.model)
            if coming is None:
                raise
        return await self.api.router.answer(await until_here(coming, request, is_told=is_told))

    def _headers_of(self, answer: Answer) -> Headers:
        ours = (
            ("x-meshd-node", answer.node_name or short(answer.node)),
            ("x-meshd-mode", answer.mode),
            ("x-request-id", self.request_id),
        )
        return (*answer.headers, *ours)

    async def _relay_body(self, answer: Answer, request: Request, measured: Measured) -> None:
        try:
            async for chunk in answer.chunks():
                measured.piece(chunk)
                await send_body(self.send, chunk, more=True)
        except RequestFailed as error:
            measured.failed(error)
            logger.warning("the answer broke off: %s", error)
            if not _is_event_stream(answer.headers):
                raise BrokenAnswer(str(error)) from error
            await send_body(self.send, sse_error_event(error, self.request_id, request.path), more=False)
            return
        await send_body(self.send, b"", more=False)


class BrokenAnswer(Exception):
    """An answer with a fixed shape broke off half-way: the connection is cut, so that nobody takes it for whole."""


def key_in(headers: Mapping[str, str]) -> str:
    """The key that a request brings, as OpenAI's clients send it or as Anthropic's do; empty without one."""
    return headers.get("authorization", "").removeprefix("Bearer ").strip() or headers.get("x-api-key", "")


def _caller(headers: dict[str, str]) -> str:
    """Whom hosts are to be fair to: whoever has this API key, of which no more than this leaves the node."""
    key = key_in(headers)
    return hashlib.sha256(b"meshd caller" + key.encode()).hexdigest()[:16] if key else ""


def _full_path(scope: Scope) -> str:
    path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"]
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _is_event_stream(headers: Headers) -> bool:
    return any(name == "content-type" and value.startswith("text/event-stream") for name, value in headers)
