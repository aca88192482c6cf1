"""What the HTTP requests of sessions may say, and what our answers to them say. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from llm.draft.message import MOST_DRAFTED
from llm.errors import BadRequest
from llm.sessions.session import Said, Turn, Wish
from llm.sessions.window import SPANS, Bounds

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Words = Annotated[str, msgspec.Meta(max_length=8 << 20)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """full: everything is attended to.  bounded: `window.Bounds`; a promise of size, not of equal output.

    draft_model: by its name; "" for n-grams.
    """

    kind: Literal["full", "bounded"] = "full"
    sink: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 4
    window: Annotated[int, msgspec.Meta(ge=16, le=1 << 20)] = 64
    spans: Annotated[int, msgspec.Meta(ge=0, le=64)] = SPANS
    draft_model: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Opening(msgspec.Struct, frozen=True):
    """POST /v1/sessions."""

    policy: Policy = Policy()
    text: Words = ""


class Addition(msgspec.Struct, frozen=True):
    """POST /v1/sessions/ID/append."""

    text: Words
    reads: bool = False
    """Read it now, rather than with the next answer."""


class Sampling(msgspec.Struct, frozen=True):
    """How to answer; OpenAI's words. draft: where proposals come from; null for what the session's policy says, or
    another host where that pays.  draft_tokens: so many at a time from another host, whether it pays or not.
    margin: `accept.settle`'s.
    """

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=16)] | None = None
    stream: bool | None = None
    draft: Literal["ngram", "far", "none"] | None = None
    draft_tokens: Annotated[int, msgspec.Meta(ge=0, le=MOST_DRAFTED)] = 0
    margin: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    n: Literal[1] | None = None


class Generation(Sampling, frozen=True, kw_only=True):
    """POST /v1/sessions/ID/generate. text: appended before."""

    text: Words = ""


class Usage(msgspec.Struct, frozen=True):
    include_usage: bool = False


class Chat(Sampling, frozen=True, kw_only=True):
    """A chat request with a `session_id`. messages: all of the conversation, as always."""

    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    stream_options: Usage | None = None


Body = TypeVar("Body", bound=msgspec.Struct)


def read_body(raw: bytes, kind: type[Body]) -> Body:
    """Raises BadRequest."""
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the request cannot be read: {error}") from error


def bounds_of(policy: Policy) -> Bounds | None:
    return Bounds(policy.sink, policy.window, policy.spans) if policy.kind == "bounded" else None


def wish_of(asked: Sampling, default_tokens: int) -> Wish:
    """seed: without one an answer at a temperature is another each time only where the text differs."""
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return Wish(
        most_tokens=asked.max_completion_tokens or asked.max_tokens or default_tokens,
        temperature=asked.temperature or 0.0,
        top_p=asked.top_p or 1.0,
        seed=abs(asked.seed or 0),
        stops=tuple(stops),
        least_margin=asked.margin,
        drafts=asked.draft != "none",
        block=asked.draft_tokens,
    )


def check_chat(chat: Chat) -> None:
    """Raises BadRequest for what only llama-server does."""
    if chat.tools or (chat.response_format or {}).get("type", "text") != "text":
        raise BadRequest("sessions answer in plain text: leave out `tools` and `response_format`, or the `session_id`")


def timings(turn: Turn) -> dict[str, Any]:
    """As llama-server has them; `draft_n` only when something was drafted."""
    read_s, said_s = max(turn.first_at - turn.asked_at, 1e-9), max(turn.ended_at - turn.first_at, 1e-9)
    found: dict[str, Any] = {
        "cache_n": turn.reused,
        "prompt_n": turn.read,
        "prompt_ms": round(1000 * read_s, 3),
        "predicted_n": turn.said,
        "predicted_ms": round(1000 * said_s, 3),
        "predicted_per_second": round(turn.said / said_s, 3),
    }
    if turn.drafted:
        by, drafting = turn.drafted_by or turn.drafter, turn.session.drafting
        if by is turn.far and turn.session.far_drafting is not None:
            drafting = turn.session.far_drafting
        found |= {"draft_n": turn.drafted, "draft_n_accepted": turn.accepted}
        found |= {"draft_blocks": turn.blocks, "draft_by": by.name}
        found |= {"draft_state": drafting.state.value, "draft_speedup_expected": round(drafting.speedup, 3)}
    return found


def usage(turn: Turn) -> dict[str, Any]:
    asked, said = turn.reused + turn.read, turn.said
    details = {"prompt_tokens_details": {"cached_tokens": turn.reused}}
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said, **details}


def chunk(envelope: Mapping[str, Any], said: Said, *, is_chat: bool) -> bytes:
    """One event of a stream."""
    finish = said.finish or None
    if is_chat:
        delta = {"role": "assistant", "content": said.text} if said.text or not finish else {}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
    else:
        choice = {"index": 0, "text": said.text, "finish_reason": finish}
    return event({**envelope, "choices": [choice]})


def whole(envelope: Mapping[str, Any], text: str, finish: str, *, is_chat: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    return {**envelope, "choices": [{"index": 0, **said, "finish_reason": finish}]}


def event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"
