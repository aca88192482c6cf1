"""Reads what an OpenAI-compatible server answers to `GET /v1/models`. Pure."""

from __future__ import annotations

import msgspec

MAX_MODELS = 64
MAX_NAME = 100


class BadModelList(Exception):
    """The answer is not a list of models."""


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Entry(msgspec.Struct):
    """vLLM says max_model_len, llama-server meta.n_ctx; most say neither."""

    id: str
    max_model_len: int | None = None
    meta: _Meta | None = None


class _List(msgspec.Struct):
    data: list[_Entry]


_decoder = msgspec.json.Decoder(_List)


def read_model_list(body: bytes) -> dict[str, int]:
    """Context in tokens of each model that has a name we can use, 0 where it is not said; at most 64.

    Raises BadModelList.
    """
    try:
        entries = _decoder.decode(body).data
    except msgspec.DecodeError as error:
        raise BadModelList(f"/v1/models answered something else than a list of models: {error}") from error
    usable = [entry for entry in entries if 0 < len(entry.id) <= MAX_NAME and entry.id.isprintable()]
    return {entry.id: _context(entry) for entry in usable[:MAX_MODELS] if "@" not in entry.id}


def _context(entry: _Entry) -> int:
    tokens = entry.max_model_len or (entry.meta.n_ctx if entry.meta else 0) or 0
    return min(max(tokens, 0), 1 << 31)
