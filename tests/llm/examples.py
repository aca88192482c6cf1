"""One example of every message of `llm`."""

from __future__ import annotations

from llm.chat import Accepted, Ask, Failure, Head, Working
from llm.offer import Offer, encode_offers
from tests.golden import Example
from transport.wire import encode

OFFER = Offer(
    name="tiny",
    fingerprint="f1" * 32,
    digest="d1" * 32,
    kind="llama-server",
    mode="solo",
    state="ready",
    reason="",
    context_tokens=4096,
    slots=4,
    in_flight=1,
    tokens_per_s=37.5,
)


def examples() -> dict[str, Example]:
    """By file name."""
    messages = {
        "ask": Ask("tiny", "f1" * 32, "POST", "/v1/chat/completions", (("content-type", "application/json"),), 17),
        "ask_for_a_caller": Ask("tiny", "", "GET", "/props", (), 0, "0123456789abcdef"),
        "accepted": Accepted(),
        "working": Working(),
        "head": Head(200, (("content-type", "text/event-stream"),)),
        "failure": Failure(429, "rate_limit_error", "queue_full", None, "8 requests wait here already", True, 2),
        "failure_final": Failure(502, "server_error", None, "model", "the engine died", False, None),
    }
    found = {
        f"chat_{name}": Example("chat/1", f"llm.chat.{type(message).__name__}", encode(message))
        for name, message in messages.items()
    }
    found["fact_models"] = Example("The value of the fact `models`", "llm.offer.Offers", encode_offers([OFFER]))
    return found
