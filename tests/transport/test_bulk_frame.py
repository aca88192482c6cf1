"""How a lane's bytes are cut into frames."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.bulk.frame import END, HEADER_BYTES, RESET, Frame, FrameReader, encode_end, encode_reset, record_prefix
from transport.errors import ProtocolError
from transport.interface import MAX_RECORD_BYTES, Record, RecordKind
from transport.record import encode_record

NUMBERS = st.integers(0, (1 << 32) - 1)
RECORDS = st.builds(Record, st.sampled_from(RecordKind), st.binary(max_size=300))
FRAMES = st.one_of(
    st.builds(Frame, NUMBERS, RECORDS),
    st.builds(lambda stream: Frame(stream, None), NUMBERS),
    st.builds(lambda stream, code: Frame(stream, None, code), NUMBERS, NUMBERS),
)


def encoded(frame: Frame) -> bytes:
    if frame.record is not None:
        return record_prefix(frame.stream) + encode_record(frame.record.kind, frame.record.payload)
    return encode_end(frame.stream) if frame.code is None else encode_reset(frame.stream, frame.code)


def read(reader: FrameReader, data: bytes) -> list[Frame]:
    """Give `data` to the reader as TLS does: no more at once than there is room for."""
    frames: list[Frame] = []
    while data:
        room = reader.room()
        size = min(len(room), len(data))
        room[:size] = data[:size]
        data = data[size:]
        frames += reader.filled(size)
    return frames


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_frames_come_out_as_they_went_in_wherever_the_bytes_are_split(frames: list[Frame], sizes: list[int]) -> None:
    data = b"".join(map(encoded, frames))
    reader, got, number = FrameReader(), [], 0
    while data:
        size = sizes[number % len(sizes)]
        got += read(reader, data[:size])
        data, number = data[size:], number + 1
    assert got == frames


def test_largest_records_follow_each_other_across_reads_of_any_size() -> None:
    frames = [Frame(number, Record(RecordKind.DATA, bytes([number]) * MAX_RECORD_BYTES)) for number in range(5)]
    data = b"".join(map(encoded, frames))
    reader, got = FrameReader(), []
    for start in range(0, len(data), 262_147):
        got += read(reader, data[start : start + 262_147])
    assert got == frames


@given(st.binary(max_size=2000))
def test_any_bytes_give_frames_or_a_protocol_error(data: bytes) -> None:
    reader = FrameReader()
    try:
        for frame in read(reader, data):
            assert frame.record is None or len(frame.record.payload) <= MAX_RECORD_BYTES
    except ProtocolError:
        return
    assert len(reader.room()) >= 256 << 10


@pytest.mark.parametrize(
    ("length", "kind"),
    [
        (MAX_RECORD_BYTES + 1, RecordKind.DATA),
        (0xFFFFFFFF, RecordKind.MESSAGE),
        (1, END),
        (3, RESET),
        (5, RESET),
        (0, 0),
        (0, 6),
        (0, 255),
    ],
)
def test_header_that_cannot_be_is_refused_before_its_payload(length: int, kind: int) -> None:
    header = struct.pack("!IIB", 2, length, kind)
    assert len(header) == HEADER_BYTES
    with pytest.raises(ProtocolError):
        read(FrameReader(), header)
