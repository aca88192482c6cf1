"""Finds one small field of a multipart/form-data body, as OpenAI's clients send with audio and images. Pure.

Only what `model` needs (RFC 7578): the body is neither decoded nor copied, uploads may be large.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PARTS = 64
MAX_PART_HEAD = 4096
BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field's value lies in the body: body[start:end]."""

    start: int
    end: int


def find_field(body: bytes, content_type: str, name: str) -> Field | None:
    """The first field called `name` that is not a file; None when there is none, or the body is not such a form."""
    boundary = BOUNDARY.match(content_type)
    if boundary is None:
        return None
    delimiter = b"--" + (boundary[1] or boundary[2]).encode()
    named = re.compile(rb'content-disposition:[^\r\n]*;\s*name="?' + re.escape(name.encode()) + rb'"?(?=[\s;]|$)', re.I)
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    for _ in range(MAX_PARTS):
        head = at + len(delimiter) + 2
        value = body.find(b"\r\n\r\n", head, head + MAX_PART_HEAD)
        if at < 0 or value < 0:
            return None
        end = body.find(b"\r\n" + delimiter, value)
        if end < 0:
            return None
        if named.search(body, head, value) and b"filename=" not in body[head:value].lower():
            return Field(value + 4, max(end, value + 4))
        at = end + 2
    return None
