"""Writes a model's other name into a request: the mesh's `vllm/qwen` is `qwen` to the server behind. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from llm.engines.interface import Request
from llm.multipart import find_field

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def rename_model(request: Request, name: str) -> Request:
    """`request` with `name` as its body's model; the same object where the body says so already or names none.

    Every other value of a JSON body stays byte for byte.
    """
    content_type = next((value for key, value in request.headers if key == "content-type"), "")
    if content_type.lower().startswith("multipart/"):
        body = _in_form(request.body, content_type, name)
    else:
        body = _in_json(request.body, name)
    return request if body is None else replace(request, body=body)


def _in_json(body: bytes, name: str) -> bytes | None:
    try:
        fields = _fields.decode(body)
    except msgspec.DecodeError:
        return None  # the server says what is wrong with it
    wanted = msgspec.Raw(msgspec.json.encode(name))
    if fields.get("model") in (None, wanted):
        return None
    return msgspec.json.encode(fields | {"model": wanted})


def _in_form(body: bytes, content_type: str, name: str) -> bytes | None:
    field = find_field(body, content_type, "model")
    if field is None or body[field.start : field.end] == name.encode():
        return None
    return body[: field.start] + name.encode() + body[field.end :]
