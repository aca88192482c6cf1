"""One greedy request to a door of the mesh, and the judgement of what came: right, refused in words, or wrong."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

TYPES = {"server_error", "rate_limit_error", "timeout_error", "invalid_request_error"}
"""Of errors, as `llm.errors` has them."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to a model, and how many tokens of greedy text come back."""

    model: str
    prompt: str
    tokens: int
    is_stream: bool

    @property
    def body(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "temperature": 0,
            "max_tokens": self.tokens,
            "stream": self.is_stream,
            "cache_prompt": False,  # or a tie between two tokens may fall differently the second time
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What came. status: 0 where no head came.  broken: what the connection broke with, empty where it ended well."""

    status: int
    body: bytes
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """kind: "right"; "error", with status and code in `detail`; "cut", a connection that broke; "wrong".

    words: the error's message.
    """

    kind: str
    detail: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request and its end. door: the agent that was asked.  began, ended: of the monotonic clock."""

    question: Question
    door: str
    judgement: Judgement
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


async def ask(session: aiohttp.ClientSession, url: str, question: Question) -> Reply:
    """Ask, and take whatever comes until the end."""
    body, status = bytearray(), 0
    try:
        async with session.post(f"{url}/v1/chat/completions", json=question.body) as response:
            status = response.status
            async for piece in response.content.iter_any():
                body += piece
    except (aiohttp.ClientError, ConnectionError) as error:
        return Reply(status, bytes(body), f"{type(error).__name__}: {error}")
    return Reply(status, bytes(body))


async def outcome(session: aiohttp.ClientSession, door: str, url: str, question: Question, expected: str) -> Outcome:
    """Ask and judge."""
    began = time.monotonic()
    reply = await ask(session, url, question)
    return Outcome(question, door, judge(reply, expected, is_stream=question.is_stream), began, time.monotonic())


def judge(reply: Reply, expected: str, *, is_stream: bool) -> Judgement:
    """What to think of a reply to a request whose right answer is `expected`."""
    if reply.broken:
        return Judgement("cut", reply.broken)
    try:
        if reply.status != 200:
            return _judge_error(json.loads(reply.body)["error"], reply.status)
        if not is_stream:
            text = json.loads(reply.body)["choices"][0]["message"]["content"]
            return _judge_text(text, expected)
        return _judge_stream(reply.body.decode(), expected)
    except (ValueError, LookupError, TypeError) as error:
        return Judgement("wrong", f"not as expected ({error!r}): {reply.status} {reply.body[:300]!r}")


def _judge_stream(body: str, expected: str) -> Judgement:
    """A stream ends with [DONE], or with an error after a beginning that is right."""
    lines = [line for line in body.split("\n") if line.startswith("data: ")]
    text = ""
    for number, line in enumerate(lines):
        is_last = number == len(lines) - 1
        if line == "data: [DONE]":
            return _judge_text(text, expected) if is_last else Judgement("wrong", "it went on after [DONE]")
        event = json.loads(line[6:])
        if "error" in event:
            if not is_last:
                return Judgement("wrong", "it went on after an error")
            if not expected.startswith(text):
                return Judgement("wrong", f"expected {expected!r}, had {text!r} when it broke off")
            return _judge_error(event["error"], 200, "after its beginning" if text else "in a stream")
        text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return Judgement("wrong", f"a stream without an end: {body[-300:]!r}")


def _judge_error(error: dict[str, Any], status: int, where: str = "") -> Judgement:
    if error["type"] not in TYPES or not error["message"] or not error["request_id"]:
        return Judgement("wrong", f"an error without its parts: {status} {error}")
    return Judgement("error", f"{where or status} {error['code']}", error["message"])


def _judge_text(text: str, expected: str) -> Judgement:
    return Judgement("right") if text == expected else Judgement("wrong", f"expected {expected!r}, got {text!r}")


async def expected_text(session: aiohttp.ClientSession, url: str, question: Question, patience_s: float) -> str:
    """The right answer, from a mesh at peace. Raises TimeoutError when none comes."""
    async with asyncio.timeout(patience_s):
        while True:
            reply = await ask(session, url, Question(question.model, question.prompt, question.tokens, is_stream=False))
            if reply.status == 200 and not reply.broken:
                return str(json.loads(reply.body)["choices"][0]["message"]["content"])
            await asyncio.sleep(0.2)
