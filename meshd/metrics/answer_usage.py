"""How many tokens an answer took, read from its body as it passes. Pure.

Engines say so once, near the end: OpenAI's `usage` (with `stream_options.include_usage`), llama-server's `timings`.
Only pieces that hold those words are parsed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_PARSED_BYTES = 1 << 20
"""An answer that is longer than this and comes in one piece is not read for its tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. drafted, accepted: by speculation; 0 without."""

    prompt: int = 0
    completion: int = 0
    drafted: int = 0
    accepted: int = 0


class UsageReader:
    """Watches one answer's body. usage: what it has said so far."""

    def __init__(self, *, is_stream: bool) -> None:
        self.usage = Usage()
        self._is_stream = is_stream
        self._held = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Look at the next piece: whole events of a stream, any bytes of another body."""
        if self._is_stream:
            if b'"usage"' in chunk or b'"timings"' in chunk:
                for line in chunk.split(b"\n"):
                    if line.startswith(b"data:"):
                        self._read(line[5:])
        elif len(self._held) + len(chunk) <= MAX_PARSED_BYTES:
            self._held += chunk

    def end(self) -> Usage:
        """What the whole answer said."""
        if not self._is_stream and self._held[:1] == b"{":
            self._read(bytes(self._held))
        return self.usage

    def _read(self, text: bytes) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            return
        if isinstance(answer, dict):
            self.usage = _usage_in(answer, self.usage)


def _usage_in(answer: dict[str, Any], before: Usage) -> Usage:
    said, timings = _dictionary(answer.get("usage")), _dictionary(answer.get("timings"))
    response = _dictionary(answer.get("response"))
    said = said or _dictionary(response.get("usage"))
    return Usage(
        prompt=_first(said, ("prompt_tokens", "input_tokens")) or before.prompt,
        completion=_first(said, ("completion_tokens", "output_tokens"))
        or _count(timings, "predicted_n")
        or before.completion,
        drafted=_count(timings, "draft_n") or before.drafted,
        accepted=_count(timings, "draft_n_accepted") or before.accepted,
    )


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(said: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((count for name in names if (count := _count(said, name))), 0)


def _count(said: dict[str, Any], name: str) -> int:
    value = said.get(name, 0)
    return value if type(value) is int and 0 <= value < 1 << 40 else 0
