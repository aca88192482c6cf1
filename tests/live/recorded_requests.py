"""Requests as clients of llama.cpp's server send them: what it answers bare, the mesh must answer too.

Every one is deterministic: greedy or seeded, and without what an earlier prompt left in the cache.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
SCHEMA = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
# One white pixel.
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d494844520000000100000001080200000090 7753de0000000c49444154789c63f8ffff3f0005fe02"
        "fe0def46b80000000049454e44ae426082".replace(" ", "")
    )
).decode()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request. model: which of the suite's models it is for.  status: what a bare server answers to it."""

    name: str
    model: str
    path: str
    body: dict[str, Any] | None
    status: int = 200
    method: str = "POST"

    def sent(self, model_name: str) -> bytes:
        """The body, naming the model as it is served."""
        return b"" if self.body is None else json.dumps({"model": model_name, **self.body}).encode()


def _chat(name: str, *, status: int = 200, **options: Any) -> Recorded:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a form?"}]
    return Recorded(name, "toy", CHAT, {"messages": messages, **GREEDY, **options}, status)


def _toy(name: str, path: str, *, status: int = 200, **body: Any) -> Recorded:
    return Recorded(name, "toy", path, body, status)


GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "cache_prompt": False}
INPUT: dict[str, Any] = {"input": "What is a form?", "max_output_tokens": 12, "temperature": 0, "cache_prompt": False}
ANTHROPIC: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], **GREEDY}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
SEEN = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]}]

RECORDED = (
    _chat("chat"),
    _chat("chat, streamed", stream=True),
    _chat("chat, streamed with usage", stream=True, stream_options={"include_usage": True}),
    _chat("chat, sampled with a seed", temperature=0.9, seed=7, top_p=0.95, top_k=20),
    _chat("chat, stop word", stop=["e"]),
    _chat("chat, two choices", n=2),
    _chat("chat, log probabilities", logprobs=True, top_logprobs=3),
    _chat("chat, log probabilities, streamed", logprobs=True, top_logprobs=2, stream=True),
    _chat("chat, JSON schema", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}),
    _chat("chat, any JSON object", response_format={"type": "json_object"}, max_tokens=40),
    _chat("chat, grammar", grammar='root ::= "yes" | "no"'),
    _chat("chat, a grammar that is none", grammar="root ::= (", status=400),
    _chat("chat, tools", tools=[WEATHER], tool_choice="required", max_tokens=60),
    _chat("chat, tools, streamed", tools=[WEATHER], tool_choice="required", max_tokens=60, stream=True),
    _chat("chat, logit bias", logit_bias={"5": -100}),
    _chat("chat, a wrong type", max_tokens="many", status=400),
    _chat("chat, an image without a projector", messages=SEEN, status=500),
    _toy("chat, longer than the context", CHAT, messages=[{"role": "user", "content": "form " * 5000}], status=400),
    _toy("completion", "/v1/completions", prompt="A form is", **GREEDY),
    _toy("completion, streamed, log probabilities", "/v1/completions", prompt="A", logprobs=2, stream=True, **GREEDY),
    _toy("llama.cpp's own completion", "/completion", prompt="A form is", n_predict=8, n_probs=2, **GREEDY),
    _toy("responses", "/v1/responses", **INPUT),
    _toy("responses, streamed", "/v1/responses", stream=True, **INPUT),
    _toy("messages", "/v1/messages", **ANTHROPIC),
    _toy("messages, streamed", "/v1/messages", stream=True, **ANTHROPIC),
    _toy("messages, counted", "/v1/messages/count_tokens", **ANTHROPIC),
    _toy("tokenize", "/tokenize", content="A form is", add_special=True, with_pieces=True),
    _toy("detokenize", "/detokenize", tokens=[5, 6, 7, 8]),
    _toy("template", "/apply-template", messages=[{"role": "user", "content": "Hello"}]),
    _toy("infill", "/infill", input_prefix="def ", input_suffix="return", status=501, **GREEDY),
    _toy("embeddings of a model that has none", "/v1/embeddings", input="Hello", status=501),
    _toy("no such path", "/v1/nothing", status=404),
    Recorded("chat about an image", "seeing", CHAT, {"messages": SEEN, **GREEDY}),
    Recorded("chat about an image, streamed", "seeing", CHAT, {"messages": SEEN, "stream": True, **GREEDY}),
    Recorded("properties", "toy", "/props", None, method="GET"),
    Recorded("embeddings", "embed", "/v1/embeddings", {"input": ["Hello", "Goodbye"]}),
    Recorded("embeddings in base64", "embed", "/v1/embeddings", {"input": "Hello", "encoding_format": "base64"}),
    Recorded("embeddings, nothing to embed", "embed", "/v1/embeddings", {"input": []}, 400),
    Recorded("rerank", "rerank", "/v1/rerank", {"query": "form", "documents": ["one", "two", "three"], "top_n": 2}),
    Recorded("rerank without documents", "rerank", "/v1/rerank", {"query": "form"}, 400),
)
