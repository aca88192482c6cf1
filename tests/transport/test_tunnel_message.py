"""What tunnel ends say is read back as it was written; anything else is the peer's fault and nothing worse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import ProtocolError
from transport.interface import NodeId, Record, RecordKind
from transport.tunnel_message import (
    MAX_WINDOW_BYTES,
    MIN_WINDOW_BYTES,
    Answer,
    Attached,
    Denial,
    Denied,
    Ended,
    Open,
    Position,
    Resume,
    Taken,
    read_answer,
    read_frame,
    read_request,
    to_record,
)

PEER = NodeId(b"\x07" * 32)
TUNNEL = bytes(range(16))
OFFSETS = st.integers(0, (1 << 53) - 1)


@given(OFFSETS, OFFSETS, st.integers(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES), st.text(max_size=64), st.text(max_size=64))
def test_messages_are_read_as_written(arrived: int, taken: int, window: int, service: str, lease: str) -> None:
    position = Position(arrived, taken)
    for request in (Open(TUNNEL, service, lease, window, taken), Resume(TUNNEL, position)):
        assert read_request(to_record(request), PEER) == request
    answers: list[Answer] = [Attached(position, window), *(Denied(code, lease) for code in Denial)]
    for answer in answers:
        assert read_answer(to_record(answer), PEER) == answer
    for frame in (Taken(taken), Ended()):
        assert read_frame(to_record(frame), PEER) == frame
    assert read_frame(Record(RecordKind.DATA, b"bytes"), PEER) == b"bytes"


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    record = Record(RecordKind.MESSAGE, payload)
    for read in (read_request, read_answer, read_frame):
        try:
            read(record, PEER)
        except ProtocolError as error:
            assert "node" in str(error)


@pytest.mark.parametrize("record", [None, Record(RecordKind.DATA, b"x"), to_record(Ended())])
def test_a_stream_does_not_begin_with_its_end_or_with_bytes(record: Record | None) -> None:
    with pytest.raises(ProtocolError):
        read_request(record, PEER)
    with pytest.raises(ProtocolError):
        read_answer(record, PEER)


@pytest.mark.parametrize("window", [0, MIN_WINDOW_BYTES - 1, MAX_WINDOW_BYTES + 1])
def test_window_out_of_range_is_refused(window: int) -> None:
    with pytest.raises(ProtocolError):
        read_request(to_record(Open(TUNNEL, "echo", "", window)), PEER)


def test_messages_have_these_bytes() -> None:
    """Golden: a later version must still read them."""
    without_term = to_record(Open(TUNNEL, "rpc", "l1", 1 << 20)).payload.replace(b"\xa4term\x00", b"")
    assert b"\x85" + without_term[1:] == bytes.fromhex(
        "85a474797065a46f70656ea674756e6e656cc410000102030405060708090a0b0c0d0e0fa773657276696365a3727063"
        "a56c65617365a26c31a677696e646f77ce00100000"
    )
    assert to_record(Taken(5)).payload.hex() == "82a474797065a574616b656ea66f666673657405"
    assert to_record(Ended()).payload.hex() == "81a474797065a5656e646564"
