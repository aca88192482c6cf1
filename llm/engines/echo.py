"""A deterministic engine without a model: it answers with the words it was asked with, at a settable pace.

Serves tests, demonstrations of the mesh alone, and benchmarks, where `python -m llm.engines.echo --port P`
serves the same engine as a bare HTTP server, to be compared with the way through the mesh.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from llm.changes import Changes
from llm.engines.interface import EngineFailed, EngineState, EngineStatus, Headers, Request
from llm.errors import BadRequest
from llm.openai import error_response, read_request

if TYPE_CHECKING:
    from starlette.applications import Starlette

MAX_TOKENS = 1_000_000
# Without a pace nothing else would make the loop's other tasks run.
TOKENS_WITHOUT_REST = 8
JSON: Headers = (("content-type", "application/json"),)
EVENTS: Headers = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))


@dataclass(frozen=True, slots=True)
class EchoOptions:
    """tokens_per_s: of each answer, 0 for as fast as it goes.  slots: answers at a time; more wait."""

    tokens_per_s: float = 0.0
    context_tokens: int = 4096
    slots: int = 64


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one request asks for, read out of its body."""

    request_id: str
    model: str
    is_chat: bool
    is_stream: bool
    includes_usage: bool
    prompt_tokens: int
    words: tuple[str, ...]
    is_cut: bool

    @property
    def finish_reason(self) -> str:
        return "length" if self.is_cut else "stop"

    @property
    def usage(self) -> dict[str, int]:
        asked, said = self.prompt_tokens, len(self.words)
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


class EchoEngine:
    """An `Engine` whose answer is its prompt's words, repeated up to `max_tokens`, one word a token."""

    kind = "echo"

    def __init__(self, name: str, options: EchoOptions | None = None) -> None:
        self.options = options or EchoOptions()
        self.slots = asyncio.Semaphore(self.options.slots)
        self.in_flight = 0
        self._name = name
        self._state = EngineState.STOPPED
        self._changes = Changes()

    @property
    def status(self) -> EngineStatus:
        options = self.options
        return EngineStatus(
            self._state, "", self.in_flight, options.context_tokens, options.slots, options.tokens_per_s
        )

    async def run(self) -> None:
        """Be ready until cancelled."""
        self._enter(EngineState.READY)
        try:
            await asyncio.Event().wait()
        finally:
            self._enter(EngineState.STOPPED)

    async def changed(self) -> None:
        await self._changes.wait()

    async def answer(self, request: Request) -> EchoReply:
        """Answer at once with a head; the body comes at the engine's pace once a slot is free."""
        if self._state is not EngineState.READY:
            raise EngineFailed(f"the echo engine {self._name!r} is {self._state.value}", retryable=True)
        reply = self._reply(request)
        self.in_flight += 1
        return reply

    def _enter(self, state: EngineState) -> None:
        self._state = state
        self._changes.notify()

    def _reply(self, request: Request) -> EchoReply:
        path = request.path.partition("?")[0]
        if path == "/v1/models" and request.method == "GET":
            models = {"object": "list", "data": [{"id": self._name, "object": "model", "owned_by": "meshd"}]}
            return EchoReply(self, 200, JSON, iter([json.dumps(models).encode()]), tokens=0)
        if path not in ("/v1/chat/completions", "/v1/completions") or request.method != "POST":
            error = BadRequest(f"the echo engine has no {request.method} {path}")
            return EchoReply(self, 404, JSON, iter([error_response(error, request.request_id).body]), tokens=0)
        try:
            answer = _read(request, is_chat=path == "/v1/chat/completions")
        except BadRequest as error:
            return EchoReply(self, 400, JSON, iter([error_response(error, request.request_id).body]), tokens=0)
        if answer.is_stream:
            return EchoReply(self, 200, EVENTS, _stream(answer), tokens=1)
        return EchoReply(self, 200, JSON, iter([_whole(answer)]), tokens=len(answer.words))


class EchoReply:
    """A `Reply` of the echo engine. tokens: how many each piece of the body stands for."""

    def __init__(
        self, engine: EchoEngine, status: int, headers: Headers, body: Iterator[bytes], *, tokens: int
    ) -> None:
        self.status = status
        self.headers = headers
        self._engine = engine
        self._body = body
        self._tokens = tokens
        self._holds_slot = False
        self._is_closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._tokens:
            await self._engine.slots.acquire()
            self._holds_slot = True
        loop = asyncio.get_running_loop()
        start = loop.time()
        rate = self._engine.options.tokens_per_s
        for number, piece in enumerate(self._body, start=1):
            if rate:
                await asyncio.sleep(start + number * self._tokens / rate - loop.time())
            elif number % TOKENS_WITHOUT_REST == 0:
                await asyncio.sleep(0)
            if self._is_closed:
                break
            yield piece
        self._free_slot()

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._engine.in_flight -= 1
        self._free_slot()

    def _free_slot(self) -> None:
        if self._holds_slot:
            self._holds_slot = False
            self._engine.slots.release()


def _read(request: Request, *, is_chat: bool) -> _Answer:
    facts = read_request(request.method, request.path, "application/json", request.body)
    try:
        body: dict[str, Any] = json.loads(request.body or b"{}")
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    prompt = _prompt_words(body, is_chat=is_chat)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or not 0 <= limit <= MAX_TOKENS):
        raise BadRequest(f"expected `max_tokens` from 0 to {MAX_TOKENS}, got {limit!r:.40}", param="max_tokens")
    tokens = len(prompt) if limit is None else limit
    options = body.get("stream_options")
    return _Answer(
        request_id=request.request_id,
        model=facts.model or request.model,
        is_chat=is_chat,
        is_stream=facts.stream,
        includes_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        prompt_tokens=len(prompt),
        words=tuple(islice(cycle(prompt), tokens)),
        is_cut=limit is not None,
    )


def _prompt_words(body: dict[str, Any], *, is_chat: bool) -> list[str]:
    if not is_chat:
        text = body.get("prompt", "")
    else:
        messages = body.get("messages")
        if not messages:
            raise BadRequest("expected at least one message in `messages`", param="messages")
        text = messages[-1].get("content", "")
    return (text.split() if isinstance(text, str) else []) or ["echo"]


def _stream(answer: _Answer) -> Iterator[bytes]:
    """One event for each word, then the end of the answer in one piece."""
    before, after = _event(answer, "\0").split(b'"\\u0000"')
    for place, word in enumerate(answer.words):
        yield before + json.dumps(word if place == 0 else f" {word}").encode() + after
    usage = b""
    if answer.includes_usage:
        usage = _as_event(_envelope(answer, ".chunk") | {"choices": [], "usage": answer.usage})
    yield _event(answer, None) + usage + b"data: [DONE]\n\n"


def _event(answer: _Answer, text: str | None) -> bytes:
    """The event that carries `text`; with None, the one that ends the answer."""
    finish = answer.finish_reason if text is None else None
    if answer.is_chat:
        said: dict[str, Any] = {"delta": {} if text is None else {"role": "assistant", "content": text}}
    else:
        said = {"text": text or ""}
    choice = {"index": 0, **said, "finish_reason": finish}
    return _as_event(_envelope(answer, ".chunk") | {"choices": [choice]})


def _as_event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _whole(answer: _Answer) -> bytes:
    text = " ".join(answer.words)
    said = {"message": {"role": "assistant", "content": text}} if answer.is_chat else {"text": text}
    choice = {"index": 0, **said, "finish_reason": answer.finish_reason}
    return json.dumps(_envelope(answer, "") | {"choices": [choice], "usage": answer.usage}).encode()


def _envelope(answer: _Answer, suffix: str) -> dict[str, Any]:
    # `created` is part of the format; a fixed one keeps the answer a function of the request.
    kind, prefix = ("chat.completion", "chatcmpl") if answer.is_chat else ("text_completion", "cmpl")
    return {
        "id": f"{prefix}-{answer.request_id}",
        "object": kind + (suffix if answer.is_chat else ""),
        "created": 0,
        "model": answer.model,
    }


def application(engine: EchoEngine) -> Starlette:
    """The engine as an ASGI application, without anything of the mesh around it."""
    from starlette.applications import Starlette
    from starlette.requests import Request as HttpRequest
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def answer(http: HttpRequest) -> StreamingResponse:
        request = Request("bare", "echo", http.method, http.url.path, (), await http.body(), deadline_s=3600.0)
        reply = await engine.answer(request)
        return StreamingResponse(_closing(reply), reply.status, dict(reply.headers))

    @asynccontextmanager
    async def running(application: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            engine_run = group.create_task(engine.run(), name="echo engine")
            yield
            engine_run.cancel()

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])], lifespan=running)


async def _closing(reply: EchoReply) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.chunks():
            yield chunk
    finally:
        await reply.close()


def main() -> None:
    """Serve the echo engine over HTTP on loopback until interrupted."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m llm.engines.echo", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens-per-s", type=float, default=0.0, help="of each answer; 0 means unpaced")
    arguments = parser.parse_args()
    engine = EchoEngine("echo", EchoOptions(tokens_per_s=arguments.tokens_per_s))
    uvicorn.run(application(engine), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
