"""The child's HTTP routes, for its agent alone: a key of this launch opens them; the agent says whose a request is.

POST /v1/sessions   GET /v1/sessions   GET, DELETE /v1/sessions/ID
POST /v1/sessions/ID/append   /generate   /chat/completions
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from llm.errors import BadRequest, RequestFailed
from llm.openai import error_response, sse_error_event
from llm.sessions.asked import (
    Addition,
    Chat,
    Generation,
    Opening,
    Sampling,
    bounds_of,
    check_chat,
    chunk,
    event,
    read_body,
    timings,
    usage,
    whole,
    wish_of,
)
from llm.sessions.chat_text import ChatText
from llm.sessions.drafter import NGRAM, NONE
from llm.sessions.names import OWNER_HEADER
from llm.sessions.session import Said, Session, Turn, Wish
from llm.sessions.sessions import Sessions
from llm.sessions.stats import write_stats
from llm.sessions.thread import Outlet, SessionThread

DEFAULT_TOKENS = 256
LOOK_S = 1.0
"""How often it is looked whether somebody who waits for a whole answer is still there."""

Handle = Callable[[Request], Awaitable[Response]]


class BrokeOff(RequestFailed):
    """The answer ended half-way: the session was deleted, or the engine ends."""

    status = 503
    code = "answer_broke_off"
    retry_after_s = 2


@dataclass(frozen=True, slots=True)
class Door:
    """name: of the model."""

    thread: SessionThread
    chat_text: ChatText
    name: str
    key: str

    def application(self) -> Starlette:
        one = "/v1/sessions/{session}"
        routes = (
            ("/v1/sessions", "POST", self.open),
            ("/v1/sessions", "GET", self.list),
            (one, "GET", self.describe),
            (one, "DELETE", self.delete),
            (f"{one}/append", "POST", self.append),
            (f"{one}/generate", "POST", self.generate),
            (f"{one}/chat/completions", "POST", self.chat),
            ("/health", "GET", self.health),
            ("/v1/models", "GET", self.models),
            ("/metrics", "GET", self.metrics),
        )
        return Starlette(
            routes=[Route(path, self._fenced(handle), methods=[method]) for path, method, handle in routes]
        )

    async def open(self, request: Request) -> Response:
        asked = read_body(await request.body(), Opening)

        def act(sessions: Sessions) -> dict[str, Any]:
            session = sessions.create(_owner(request), bounds_of(asked.policy), asked.policy.draft_model)
            if asked.text:
                sessions.append(session, sessions.context.tokenize(asked.text, is_start=True))
            return sessions.describe(session)

        return JSONResponse(await self.thread.call(act) | {"model": self.name}, 201)

    async def list(self, request: Request) -> Response:
        def act(sessions: Sessions) -> dict[str, Any]:
            mine = sessions.owned_by(_owner(request))
            return {"data": [sessions.describe(one) for one in mine], "totals": sessions.totals()}

        return JSONResponse({"object": "list", **await self.thread.call(act)})

    async def describe(self, request: Request) -> Response:
        about = await self.thread.call(lambda sessions: sessions.describe(_find(sessions, request)))
        return JSONResponse(about | {"model": self.name})

    async def delete(self, request: Request) -> Response:
        await self.thread.call(lambda sessions: sessions.delete(_find(sessions, request)))
        return JSONResponse({"id": request.path_params["session"], "object": "session", "deleted": True})

    async def append(self, request: Request) -> Response:
        asked = read_body(await request.body(), Addition)

        def act(sessions: Sessions) -> dict[str, Any]:
            session = _find(sessions, request)
            _append(sessions, session, asked.text)
            return sessions.describe(session)

        about = await self.thread.call(act)
        if asked.reads:
            outlet = Outlet()
            turn = await self.thread.call(
                lambda sessions: sessions.begin(_find(sessions, request), Wish(most_tokens=0), outlet)
            )
            await self._collect(request, turn, outlet)
            about = await self.thread.call(lambda sessions: sessions.describe(turn.session))
        return JSONResponse(about)

    async def generate(self, request: Request) -> Response:
        asked = read_body(await request.body(), Generation)

        def prepare(sessions: Sessions) -> Session:
            session = _find(sessions, request)
            if asked.text:
                _append(sessions, session, asked.text)
            return session

        # Streamed unless it says otherwise.
        return await self._answer(request, asked, prepare, is_chat=False, is_stream=asked.stream is not False)

    async def chat(self, request: Request) -> Response:
        asked = read_body(await request.body(), Chat)
        check_chat(asked)
        text = self.chat_text.write(asked.messages)

        def prepare(sessions: Sessions) -> Session:
            session = _find(sessions, request)
            sessions.replace(session, sessions.context.tokenize(text, is_start=True))
            return session

        told = asked.stream_options is not None and asked.stream_options.include_usage
        return await self._answer(request, asked, prepare, is_chat=True, is_stream=bool(asked.stream), tells_usage=told)

    async def _answer(
        self,
        request: Request,
        asked: Sampling,
        prepare: Callable[[Sessions], Session],
        *,
        is_chat: bool,
        is_stream: bool,
        tells_usage: bool = True,
    ) -> Response:
        outlet, wish = Outlet(), wish_of(asked, DEFAULT_TOKENS)
        drafter = {"ngram": NGRAM, "far": NONE}.get(asked.draft or "")
        is_near = asked.draft == "ngram"
        turn = await self.thread.call(
            lambda sessions: sessions.begin(prepare(sessions), wish, outlet, drafter, is_near=is_near)
        )
        kind = "chat.completion" if is_chat else "text_completion"
        envelope = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": f"{kind}.chunk" if is_stream and is_chat else kind,
            "created": int(time.time()),
            "model": self.name,
            "session_id": turn.session.id,
        }
        if is_stream:
            events = self._events(turn, outlet, envelope, is_chat=is_chat, tells_usage=tells_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        text, finish = await self._collect(request, turn, outlet)
        body = whole(envelope, text, finish, is_chat=is_chat)
        return JSONResponse(body | {"usage": usage(turn), "timings": timings(turn)})

    async def _events(
        self, turn: Turn, outlet: Outlet, envelope: dict[str, Any], *, is_chat: bool, tells_usage: bool
    ) -> AsyncIterator[bytes]:
        said = Said("", 0)
        try:
            while not said.finish:
                said = await outlet.hear()
                if said.finish == "error":
                    yield sse_error_event(BrokeOff("the answer broke off; the session has what was said"), "")
                    return
                if said.text or said.finish:
                    yield chunk(envelope, said, is_chat=is_chat)
            if tells_usage:
                yield event({**envelope, "choices": [], "usage": usage(turn), "timings": timings(turn)})
            yield b"data: [DONE]\n\n"
        finally:
            await self._abandon(turn, said)

    async def _collect(self, request: Request, turn: Turn, outlet: Outlet) -> tuple[str, str]:
        """The whole answer and how it ended, unless whoever asked goes away. Raises BrokeOff."""
        parts: list[str] = []
        said = Said("", 0)
        try:
            while not said.finish:
                try:
                    async with asyncio.timeout(LOOK_S):
                        said = await outlet.hear()
                    parts.append(said.text)
                except TimeoutError:
                    if await request.is_disconnected():
                        break
        finally:
            await self._abandon(turn, said)
        if said.finish in ("", "error"):
            raise BrokeOff("the answer broke off; the session has what was said")
        return "".join(parts), said.finish

    async def _abandon(self, turn: Turn, last: Said) -> None:
        if not last.finish:
            with suppress(RequestFailed):
                await self.thread.call(lambda sessions: sessions.cancel(turn))

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        cells = await self.thread.call(lambda sessions: sessions.context.cells)
        entry = {"id": self.name, "object": "model", "owned_by": "meshd", "meta": {"n_ctx": cells}}
        return JSONResponse({"object": "list", "data": [entry]})

    async def metrics(self, request: Request) -> Response:
        totals = await self.thread.call(lambda sessions: sessions.totals())
        return Response(write_stats(totals))

    def _fenced(self, handle: Handle) -> Handle:
        """Only with the key; what fails is answered in OpenAI's shape."""

        async def fenced(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
                return JSONResponse({"error": {"message": "this port is meshd's own"}}, 401)
            try:
                return await handle(request)
            except RequestFailed as error:
                said = error_response(error, request.headers.get("x-request-id", ""))
                return Response(said.body, said.status, dict(said.headers))

        return fenced


def _owner(request: Request) -> str:
    return request.headers.get(OWNER_HEADER, "")


def _find(sessions: Sessions, request: Request) -> Session:
    return sessions.find(request.path_params["session"], _owner(request))


def _append(sessions: Sessions, session: Session, text: str) -> None:
    tokens = sessions.context.tokenize(text, is_start=not session.tokens)
    if not tokens:
        raise BadRequest("expected some text, got none")
    sessions.append(session, tokens)
