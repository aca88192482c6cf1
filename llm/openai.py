"""What we must read of an OpenAI-shaped request, and how our errors look to its sender.

A body is read for its model and whether it streams, and handed on untouched: everything else in it is
between the client and the engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import msgspec

from llm.errors import BadRequest, HeadersTooLarge, RequestFailed, list_models
from llm.multipart import find_field

MAX_MODEL_NAME = 256
MODEL_HEADER = "x-meshd-model"
TIMEOUT_HEADER = "x-meshd-timeout-s"
MAX_HEADERS = 64
MAX_HEADER_BYTES = 4096
"""Half of what llama-server reads (cpp-httplib: 100 of 8,192): it cuts the connection where there is more, and would be
taken for broken."""
NOT_JSON = ("multipart/", "audio/", "image/", "video/", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """model: as the client named it, None when it did not.  stream: whether it asked for events.  session: the one
    that is to remember this chat.
    """

    model: str | None
    stream: bool
    session: str | None = None

    def required_model(self, known: Sequence[str]) -> str:
        """The model's name. Raises BadRequest that lists `known` when the client gave none."""
        if self.model is None:
            message = f"expected the name of a model in `model`, got none; {list_models(known)}"
            raise BadRequest(message, param="model")
        return self.model


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """A complete HTTP answer that says what went wrong. headers: lower-case names."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def check_headers(headers: Sequence[tuple[str, str]]) -> None:
    """Raises HeadersTooLarge for what no engine would read. headers: that are to be passed on."""
    if len(headers) > MAX_HEADERS:
        raise HeadersTooLarge(f"the request has {len(headers)} headers for the engine; the limit is {MAX_HEADERS}")
    for name, value in headers:
        if len(name) + len(value) > MAX_HEADER_BYTES:
            size = f"{len(name) + len(value)} bytes; the limit is {MAX_HEADER_BYTES}"
            raise HeadersTooLarge(f"the header {name[:100]!r} has {size}")


class _Body(msgspec.Struct):
    """The fields that we look at. Fields we do not know are skipped, not judged."""

    model: str | None = None
    stream: bool | None = None
    session_id: str | None = None
    messages: list[dict[str, msgspec.Raw]] | msgspec.UnsetType = msgspec.UNSET


_body_decoder = msgspec.json.Decoder(_Body)


def read_request(
    method: str, path: str, content_type: str, body: bytes, *, model_header: str | None = None
) -> RequestFacts:
    """What `body` and `path` say of the model and of streaming.

    path: query included.  model_header: the value of `x-meshd-model`.  The body's word comes first, then the
    header's, then `?model=`; a body is JSON or a form (RFC 7578), others are not read. Raises BadRequest.
    """
    # curl sends JSON as application/x-www-form-urlencoded unless told otherwise: only what can't be JSON is not read.
    is_json = bool(body) and method != "GET" and not content_type.lower().startswith(NOT_JSON)
    fields = _read_body(body) if is_json else _Body()
    model = fields.model or _model_in_form(body, content_type) or model_header or _model_in_query(path)
    if model is not None and len(model) > MAX_MODEL_NAME:
        raise BadRequest(
            f"expected a model name of at most {MAX_MODEL_NAME} characters, got {len(model)}", param="model"
        )
    return RequestFacts(model=model or None, stream=bool(fields.stream), session=fields.session_id)


def read_timeout_s(value: str | None, longest_s: float) -> float:
    """How long a request may take, by the value of `x-meshd-timeout-s`: `longest_s` at most. Raises BadRequest."""
    if value is None:
        return longest_s
    try:
        timeout_s = float(value)
    except ValueError:
        timeout_s = 0.0
    if not timeout_s > 0:  # nor is NaN
        raise BadRequest(f"expected {TIMEOUT_HEADER} as a number of seconds above 0, got {value[:40]!r}")
    return min(timeout_s, longest_s)


def error_response(error: RequestFailed, request_id: str, path: str = "") -> ErrorResponse:
    """The HTTP answer for `error`, in the shape that clients of `path` expect."""
    headers = [("content-type", "application/json"), ("x-request-id", request_id)]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    return ErrorResponse(error.status, tuple(headers), _error_json(error, request_id, path))


def sse_error_event(error: RequestFailed, request_id: str, path: str = "") -> bytes:
    """The last event of a stream that broke off: what its client's library recognises as an error."""
    name = b"event: error\n" if _is_anthropic(path) else b""
    return name + b"data: " + _error_json(error, request_id, path) + b"\n\n"


def _read_body(body: bytes) -> _Body:
    try:
        return _body_decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = re.match(r"`\$\.(\w+)", where)
        if field is None:
            raise BadRequest(f"expected a JSON object as body: {what}") from error
        raise BadRequest(f"wrong type in `{where.strip('`$.')}`: {what}", param=field[1]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error


def _model_in_form(body: bytes, content_type: str) -> str | None:
    field = find_field(body, content_type, "model")
    if field is None or field.end - field.start > 4 * MAX_MODEL_NAME:
        return None
    return body[field.start : field.end].decode(errors="replace")


def _model_in_query(path: str) -> str | None:
    try:
        values = parse_qs(urlsplit(path).query, max_num_fields=100).get("model")
    except ValueError as error:
        raise BadRequest(f"the query of the URL cannot be read: {error}") from error
    return values[0] if values else None


def _is_anthropic(path: str) -> bool:
    return path.startswith("/v1/messages")


def _error_json(error: RequestFailed, request_id: str, path: str) -> bytes:
    detail = {
        "message": str(error),
        "type": error.kind,
        "param": error.param,
        "code": error.code,
        "request_id": request_id,
    }
    outer = {"type": "error", "error": detail} if _is_anthropic(path) else {"error": detail}
    return json.dumps(outer).encode()
