from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import wire
from transport.errors import ProtocolError
from transport.identity import node_id, short

PEER = node_id(b"p" * 32)


class Sample(msgspec.Struct, frozen=True):
    name: wire.ShortText
    key: wire.Bytes16
    counts: list[int] = []
    more: dict[str, int] = {}


class Left(msgspec.Struct, frozen=True, tag="left"):
    value: int


class Right(msgspec.Struct, frozen=True, tag="right"):
    value: str


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary() | st.integers(0, 99), inner),
    max_leaves=12,
)


def read(data: bytes, max_bytes: int = 1000) -> Sample:
    return wire.decode(data, Sample, peer=PEER, max_bytes=max_bytes)


def test_struct_survives_the_round_trip() -> None:
    sample = Sample("ä" * 64, b"k" * 16, [1, -2], {"a": 1})
    assert read(wire.encode(sample)) == sample


def test_union_is_told_apart_by_its_tag() -> None:
    read_any = wire.decode(wire.encode(Right("x")), Left | Right, peer=None, max_bytes=100)
    assert read_any == Right("x")


class Point(msgspec.Struct, frozen=True, array_like=True, tag=1):
    x: int


class Name(msgspec.Struct, frozen=True, array_like=True, tag=2):
    name: str


tags = st.sampled_from(["left", "right", "up", 1, 2, 3, True, 1.0, None, b"left", [1], -1])
tagged = st.one_of(
    st.builds(lambda tag, rest: [tag, *rest], tags, st.lists(values, max_size=2)),
    st.builds(lambda tag, value: {"type": tag, "value": value}, tags, values),
    values,
)


@given(tagged)
@settings(max_examples=400, deadline=None)
def test_union_read_by_its_tag_is_what_msgspec_makes_of_the_whole_union(raw: object) -> None:
    try:
        data = msgpack.packb(raw)
    except (ValueError, OverflowError):
        return
    for union in (Left | Right, Point | Name):
        try:
            plain = msgspec.convert(wire._unpack(data, 256), union, strict=True, builtin_types=(bytes,))
        except (msgspec.MsgspecError, msgpack.UnpackException, ValueError, TypeError):
            with pytest.raises(ProtocolError):
                wire.decode(data, union, peer=None, max_bytes=10_000)
        else:
            assert wire.decode(data, union, peer=None, max_bytes=10_000) == plain


@given(st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_bytes_end_in_a_value_or_a_protocol_error(data: bytes) -> None:
    for expected in (Sample, Left | Right):
        try:
            wire.decode(data, expected, peer=None, max_bytes=1000)
        except ProtocolError:
            continue


@given(values)
@settings(max_examples=200, deadline=None)
def test_any_messagepack_value_ends_in_a_value_or_a_protocol_error(value: Any) -> None:
    for shape in (value, {"name": value, "key": b"k" * 16}, {"name": "n", "key": b"k" * 16, "more": value}):
        try:
            wire.decode(msgpack.packb(shape), Sample, peer=PEER, max_bytes=1 << 20)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "incomplete"),
        (wire.encode(Sample("n", b"k" * 15)), "length >= 16"),
        (wire.encode(Sample("n" * 65, b"k" * 16)), "length <= 64"),
        (msgpack.packb({"name": "n", "key": "a2tra2tra2tra2tra2tra2s="}), "Expected `bytes`, got `str`"),
        (msgpack.packb({"name": b"n", "key": b"k" * 16}), "Expected `str`"),
        (msgpack.packb({"name": "n"}), "missing required field `key`"),
        (msgpack.packb({1: 2}), "map key"),
        (wire.encode(Sample("n", b"k" * 16)) + b"\x00", "extra data"),
        (msgpack.packb(msgpack.ExtType(5, b"")), "extension type 5"),
        (msgpack.packb(msgpack.Timestamp(5)), "max_ext_len"),
        (b"\x91" * 2000, "StackError"),
        (b"\xc6\xff\xff\xff\xff", "incomplete"),
        (b"\xdf\xff\xff\xff\xff", "max_map_len"),
    ],
)
def test_error_says_what_was_expected_what_came_and_from_whom(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(data, max_bytes=4000)
    text = str(caught.value)
    assert "expected Sample" in text
    assert f"{len(data)} bytes from node {short(PEER)}" in text
    assert reason in text


def test_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="at most 10 bytes, got 11 bytes"):
        read(b"\xff" * 11, max_bytes=10)


def test_unproved_peer_and_other_sources_are_named() -> None:
    with pytest.raises(ProtocolError, match="has not proved its identity"):
        wire.decode(b"", Sample, peer=None, max_bytes=10)
    with pytest.raises(ProtocolError, match="from the membership file"):
        wire.decode(b"", Sample, peer=None, max_bytes=10, source="the membership file")


def test_words_of_the_peer_reach_the_log_on_one_line() -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode(msgpack.packb({"type": "\x1b[2J\nroot: all is well"}), Left | Right, peer=PEER, max_bytes=100)
    assert str(caught.value).isprintable()


def test_nested_list_headers_cannot_take_much_memory() -> None:
    hostile = b"\xdc\x01\x00" * 300_000  # nearly a megabyte that announces 256 entries, 300,000 deep
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="StackError"):
        read(hostile, max_bytes=1 << 20)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3 << 20


def test_a_list_of_more_items_than_allowed_is_refused() -> None:
    long = wire.encode(Sample("n", b"k" * 16, [1] * 50))
    with pytest.raises(ProtocolError, match="max_array_len"):
        wire.decode(long, Sample, peer=PEER, max_bytes=1000, max_items=49)
    assert wire.decode(long, Sample, peer=PEER, max_bytes=1000, max_items=50).counts == [1] * 50
