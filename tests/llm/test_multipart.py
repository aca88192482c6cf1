"""A form's field is found where it is, and in nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.multipart import find_field
from llm.openai import read_request

TYPE = "multipart/form-data; boundary=XyZ"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts, each with the rest of its Content-Disposition."""
    written = [
        b"--XyZ\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + value for head, value in parts
    ]
    return b"\r\n".join(written) + b"\r\n--XyZ--\r\n"


def found(body: bytes, content_type: str = TYPE) -> bytes | None:
    field = find_field(body, content_type, "model")
    return None if field is None else body[field.start : field.end]


FILE = ('name="file"; filename="a.wav"', b'\x00\xff name="model"\r\n\r\nlie')


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ([('name="model"', b"whisper")], b"whisper"),
        ([FILE, ('name="model"', b"whisper"), ('name="language"', b"de")], b"whisper"),
        ([('name="model"', b"")], b""),
        ([("name=model", b"whisper")], b"whisper"),
        ([('name="model"; filename="m.txt"', b"a file")], None),
        ([('name="models"', b"no")], None),
        ([FILE], None),
        ([], None),
    ],
)
def test_finds_the_field(parts: list[tuple[str, bytes]], value: bytes | None) -> None:
    assert found(form(*parts)) == value


def test_quoted_boundaries_and_preambles() -> None:
    body = b"ignore me\r\n" + form(('name="model"', b"m"))
    assert found(body, 'multipart/form-data; charset=utf-8; boundary="XyZ"') == b"m"


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="]
)
def test_without_a_boundary_there_is_nothing(content_type: str) -> None:
    assert found(form(('name="model"', b"m")), content_type) is None


def test_a_field_beyond_the_limits_is_not_looked_for() -> None:
    many = [(f'name="f{number}"', b"x") for number in range(100)]
    assert found(form(*many, ('name="model"', b"m"))) is None
    assert found(form((f'name="model"; x="{"y" * 5000}"', b"m"))) is None


@given(
    st.lists(
        st.sampled_from([b"--XyZ", b"\r\n", b"\r\n\r\n", b'content-disposition: form-data; name="model"', b"x", b"--"])
    )
)
def test_pieces_of_forms_in_any_order_never_raise(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    value = found(body)
    assert value is None or value in body


def test_the_api_reads_a_forms_model() -> None:
    facts = read_request("POST", "/v1/audio/transcriptions", TYPE, form(FILE, ('name="model"', b"whisper")))
    assert facts.model == "whisper"
