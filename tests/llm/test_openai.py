"""What is read of a body, and how errors look to OpenAI's and Anthropic's clients."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.engines.interface import EngineFailed
from llm.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    HeadersTooLarge,
    HostFailed,
    NoHost,
    QueueFull,
    RequestFailed,
    UnknownModel,
)
from llm.openai import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    RequestFacts,
    check_headers,
    error_response,
    read_request,
    sse_error_event,
)

JSON = "application/json"
CHAT = "/v1/chat/completions"


def test_model_and_stream_are_read_and_the_rest_is_not_judged() -> None:
    body = (
        b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": [1, {}]}], "tools": {"odd": [null]}}'
    )
    assert read_request("POST", CHAT, JSON, body) == RequestFacts("m", stream=True)


def test_absent_and_null_fields_mean_nothing_was_said() -> None:
    assert read_request("POST", CHAT, JSON, b"{}") == RequestFacts(None, stream=False)
    assert read_request("POST", CHAT, JSON, b'{"model": null, "stream": null}') == RequestFacts(None, stream=False)
    assert read_request("POST", CHAT, JSON, b'{"model": ""}') == RequestFacts(None, stream=False)


def test_curl_without_a_content_type_header_is_json_all_the_same() -> None:
    assert read_request("POST", CHAT, "application/x-www-form-urlencoded", b'{"model": "m"}').model == "m"


@pytest.mark.parametrize(
    ("path", "header", "expected"),
    [
        ("/props?model=from-query", None, "from-query"),
        ("/props?model=from-query", "from-header", "from-header"),
        ("/slots", "from-header", "from-header"),
        ("/props?model=a%2Fb&x=1", None, "a/b"),
        ("/props", None, None),
    ],
)
def test_without_a_json_body_the_header_then_the_query_name_the_model(
    path: str, header: str | None, expected: str | None
) -> None:
    assert read_request("GET", path, "", b"", model_header=header).model == expected
    upload = read_request("POST", path, "multipart/form-data; boundary=x", b"--x not json", model_header=header)
    assert upload.model == expected


def test_the_body_names_the_model_before_header_and_query() -> None:
    facts = read_request("POST", "/tokenize?model=query", JSON, b'{"model": "body"}', model_header="header")
    assert facts.model == "body"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{", None, "not valid JSON"),
        (b"", None, None),
        (b"null", None, "JSON object"),
        (b"[1]", None, "JSON object"),
        (b'"text"', None, "JSON object"),
        (b'{"model": 7}', "model", "wrong type in `model`"),
        (b'{"model": "m", "stream": "yes"}', "stream", "wrong type in `stream`"),
        (b'{"model": "m", "messages": "hi"}', "messages", "wrong type in `messages`"),
        (b'{"model": "m", "messages": null}', "messages", "wrong type in `messages`"),
        (b'{"model": "m", "messages": ["hi"]}', "messages", "wrong type in `messages"),
        (b"[" * 100_000, None, ""),
        (b'{"a":' * 100_000, None, "not valid JSON"),
        (b'{"model": "' + b"m" * 300 + b'"}', "model", "at most 256"),
        (b'{"model": "\xff"}', None, "not valid JSON"),
    ],
)
def test_bodies_that_cannot_be_read_say_what_was_expected(body: bytes, param: str | None, words: str | None) -> None:
    if words is None:
        assert read_request("POST", CHAT, JSON, body) == RequestFacts(None, stream=False)
        return
    with pytest.raises(BadRequest) as failure:
        read_request("POST", CHAT, JSON, body)
    assert words in str(failure.value)
    assert failure.value.param == param


def test_a_request_without_a_model_lists_those_that_exist() -> None:
    with pytest.raises(BadRequest, match="there are: a, b") as failure:
        RequestFacts(None, stream=False).required_model(["a", "b"])
    assert failure.value.param == "model"
    with pytest.raises(BadRequest, match="meshd --model PATH"):
        RequestFacts(None, stream=False).required_model([])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        facts = read_request("POST", CHAT, JSON, body)
    except BadRequest:
        return
    assert facts.model is None or facts.model


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["model", "stream", "messages", "x"]), JSON_VALUES, max_size=4))
def test_every_json_object_is_read_by_its_types(fields: dict[str, object]) -> None:
    try:
        facts = read_request("POST", CHAT, JSON, json.dumps(fields).encode())
    except BadRequest:
        assert not (
            isinstance(fields.get("model"), str | None)
            and isinstance(fields.get("stream"), bool | None)
            and "messages" not in fields
        )
        return
    assert facts.model == (fields.get("model") or None)
    assert facts.stream == bool(fields.get("stream"))


STATUSES: list[tuple[RequestFailed, int, str, bool]] = [
    (BadRequest("bad", param="stream"), 400, "invalid_request_error", False),
    (BodyTooLarge(64 << 20), 413, "invalid_request_error", False),
    (UnknownModel("x", ["a"]), 404, "invalid_request_error", False),
    (QueueFull("full"), 429, "rate_limit_error", True),
    (NoHost("none"), 503, "server_error", True),
    (HostFailed("gone", retryable=True), 502, "server_error", True),
    (EngineFailed("died", retryable=True), 502, "server_error", True),
    (DeadlineExceeded("late"), 504, "timeout_error", False),
]


@pytest.mark.parametrize(("error", "status", "kind", "has_retry_after"), STATUSES)
def test_every_error_has_its_status_and_openais_shape(
    error: RequestFailed, status: int, kind: str, has_retry_after: bool
) -> None:
    response = error_response(error, "req-9", CHAT)
    body = json.loads(response.body)
    assert response.status == status
    assert set(body["error"]) == {"message", "type", "param", "code", "request_id"}
    assert body["error"]["type"] == kind
    assert body["error"]["request_id"] == "req-9"
    assert ("retry-after" in dict(response.headers)) == has_retry_after


def test_unknown_model_lists_the_models_that_exist() -> None:
    error = json.loads(error_response(UnknownModel("x", ["alpha", "beta"]), "r").body)["error"]
    assert error["code"] == "model_not_found"
    assert "alpha, beta" in error["message"]


def test_error_event_is_one_whole_event() -> None:
    event = sse_error_event(HostFailed("two\nlines", retryable=False), "req-9", CHAT)
    assert event.startswith(b"data: {")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == "two\nlines"


def test_anthropic_clients_get_their_own_event_and_envelope() -> None:
    event = sse_error_event(QueueFull("full"), "req-9", "/v1/messages")
    name, data = event.strip().split(b"\n")
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["type"] == "error"
    assert json.loads(error_response(QueueFull("full"), "r", "/v1/messages?beta=true").body)["type"] == "error"


def test_headers_that_an_engine_would_choke_on_are_the_clients_fault() -> None:
    whole = "v" * (MAX_HEADER_BYTES - 1)
    check_headers([("x", whole)] * MAX_HEADERS)
    with pytest.raises(HeadersTooLarge, match="65 headers"):
        check_headers([("x", "")] * (MAX_HEADERS + 1))
    with pytest.raises(HeadersTooLarge, match="'x' has 4097 bytes"):
        check_headers([("x", whole + "v")])
