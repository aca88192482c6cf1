"""Bytes are cut into the same records however they arrive, and nothing is kept for a header that lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import ProtocolError
from transport.interface import MAX_RECORD_BYTES, Record, RecordKind
from transport.record import HEADER_BYTES, RecordReader, encode_record

RECORDS = st.lists(st.builds(Record, st.sampled_from(RecordKind), st.binary(max_size=300)), max_size=20)


@given(RECORDS, st.lists(st.integers(1, 400)))
def test_records_survive_any_cutting_of_the_bytes(records: list[Record], cuts: list[int]) -> None:
    data = b"".join(encode_record(record.kind, record.payload) for record in records)
    reader = RecordReader()
    got: list[Record] = []
    for size in cuts:
        got += reader.feed(data[:size])
        data = data[size:]
    got += reader.feed(data)
    assert got == records
    assert reader.is_between_records


@given(st.lists(st.binary(max_size=100), max_size=30))
def test_any_bytes_give_records_or_a_protocol_error(pieces: list[bytes]) -> None:
    reader = RecordReader(max_record_bytes=64)
    try:
        for piece in pieces:
            for record in reader.feed(piece):
                assert len(record.payload) <= 64
    except ProtocolError:
        pass


def test_layout_on_the_wire() -> None:
    assert encode_record(RecordKind.MESSAGE, b"hi") == b"\x00\x00\x00\x02\x02hi"


def test_unfinished_record_is_seen_as_such() -> None:
    reader = RecordReader()
    assert reader.feed(encode_record(RecordKind.DATA, b"whole") + b"\x00") == [Record(RecordKind.DATA, b"whole")]
    assert not reader.is_between_records


def test_length_is_refused_from_the_header_alone() -> None:
    with pytest.raises(ProtocolError, match="1048577"):
        RecordReader().feed((MAX_RECORD_BYTES + 1).to_bytes(4, "big") + b"\x03")


def test_unknown_kind_is_refused_from_the_header_alone() -> None:
    with pytest.raises(ProtocolError, match="got 99"):
        RecordReader().feed(b"\x00\x0f\xff\xff\x63")


def test_header_in_single_bytes() -> None:
    reader = RecordReader()
    data = encode_record(RecordKind.DATA, b"abc")
    for position in range(HEADER_BYTES + 2):
        assert reader.feed(data[position : position + 1]) == []
    assert reader.feed(data[-1:]) == [Record(RecordKind.DATA, b"abc")]


def test_too_large_a_payload_is_our_own_mistake() -> None:
    with pytest.raises(ValueError):
        encode_record(RecordKind.DATA, bytes(MAX_RECORD_BYTES + 1))
