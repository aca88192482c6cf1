"""Requests as the API door makes them, and what tests read out of answers."""

from __future__ import annotations

import json
from typing import Any

from llm.engines.interface import Reply, Request

CHAT = "/v1/chat/completions"


def chat(
    model: str = "tiny",
    text: str = "one two three",
    *,
    max_tokens: int | None = None,
    stream: bool = False,
    deadline_s: float = 30.0,
    **more: Any,
) -> Request:
    """A chat request of one user message."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    return post(model, CHAT, json.dumps(body).encode(), deadline_s)


def post(model: str, path: str, body: bytes, deadline_s: float = 30.0) -> Request:
    """A POST of JSON bytes, well-formed or not."""
    return Request("req-1", model, "POST", path, (("content-type", "application/json"),), body, deadline_s)


def get(model: str, path: str) -> Request:
    """A GET."""
    return Request("req-1", model, "GET", path, (), b"", 10.0)


async def read(reply: Reply) -> bytes:
    """The whole body; the reply is closed."""
    try:
        return b"".join([chunk async for chunk in reply.chunks()])
    finally:
        await reply.close()


def events(body: bytes) -> list[Any]:
    """The events of a stream that ended in order, `[DONE]` checked and left out."""
    lines = [line for line in body.decode().split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def streamed_text(body: bytes) -> str:
    """What a chat stream said."""
    choices = [choice for event in events(body) for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
