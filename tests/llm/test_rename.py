"""The server behind reads its own name for a model, and otherwise what the client wrote."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from llm.engines.rename import rename_model
from tests.llm.requests import post

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.text(min_size=1))
def test_everything_but_the_model_stays(fields: dict[str, object], name: str) -> None:
    request = post("m", "/v1/x", json.dumps({**fields, "model": "mesh/name"}).encode())
    assert json.loads(rename_model(request, name).body) == {**fields, "model": name}


def test_values_stay_byte_for_byte() -> None:
    body = b'{"temperature": 1.50e0, "model": "a/b", "text": "\\u00e9\\/"}'
    renamed = rename_model(post("m", "/v1/x", body), "b").body
    assert b"1.50e0" in renamed
    assert b'"\\u00e9\\/"' in renamed


def test_a_body_that_is_right_or_unreadable_is_not_touched() -> None:
    for body in (b'{ "model":"b" , "x":1}', b'{"x": 1}', b'{"model": ', b"[1]", b""):
        request = post("m", "/v1/x", body)
        assert rename_model(request, "b") is request
