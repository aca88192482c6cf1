"""Whether a draft model speaks a model's language: the rule of llama.cpp's common/speculative.cpp. Reads both files."""

from __future__ import annotations

from pathlib import Path

from llm.gguf import ModelFile

MOST_MORE_TOKENS = 128
"""Models of one family are padded to different sizes: Qwen2.5 has 151,936 tokens in small ones, 128 more in others."""


def why_no_draft(model: ModelFile, draft: ModelFile) -> str:
    """Why `draft` cannot propose tokens to `model`; empty when it can. Raises OSError."""
    kinds = [str(one.metadata.get("tokenizer.ggml.model", "")) for one in (model, draft)]
    if kinds[0] != kinds[1]:
        return f"its tokenizer is {kinds[1] or 'none'!r}, the model's {kinds[0] or 'none'!r}"
    counts = [one.tokens.items for one in (model, draft)]
    if abs(counts[0] - counts[1]) > MOST_MORE_TOKENS:
        return f"it has {counts[1]} tokens, the model {counts[0]}: at most {MOST_MORE_TOKENS} more or less would do"
    if model.vocabulary_digest != draft.vocabulary_digest and not _begin_alike(model, draft):
        return "its tokens are not the model's"
    return ""


def _begin_alike(one: ModelFile, other: ModelFile) -> bool:
    """Whether the tokens of the one that has fewer are the first of the other's."""
    fewer, more = sorted((one, other), key=lambda file: file.tokens.items)
    count = fewer.tokens.end - fewer.tokens.start
    return _read(fewer.paths[0], fewer.tokens.start, count) == _read(more.paths[0], more.tokens.start, count)


def _read(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)
