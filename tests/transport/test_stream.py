"""The stream machine by itself: two of them wired together by hand, and one against hostile bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport import wire
from transport.credit import INITIAL_WINDOW_BYTES, ReceiveCredit, WindowBudget, encode_grant
from transport.errors import ProtocolError, ResetCode, StreamReset, Unreachable
from transport.interface import NodeId, Record, RecordKind, StreamHeader
from transport.record import encode_record
from transport.stream import StreamMachine

PEER = NodeId(b"\x09" * 32)
HEADER = StreamHeader("echo/1", "r-1", 100)
OPEN = encode_record(RecordKind.OPEN, wire.encode(HEADER))


@dataclass
class RecordingLane:
    """Keeps what a machine asks of its carrier."""

    written: list[bytes] = field(default_factory=list)
    ends: int = 0
    abandoned: list[int] = field(default_factory=list)
    forgotten: int = 0

    def send(self, kind: RecordKind, payload: bytes) -> None:
        self.write(encode_record(kind, payload), end=False)

    def write(self, data: bytes, end: bool) -> None:
        assert not self.forgotten
        self.written.append(data)
        self.ends += end

    def abandon(self, code: int) -> None:
        assert not self.forgotten
        self.abandoned.append(code)

    def forget(self) -> None:
        self.forgotten += 1


@dataclass
class End:
    """A machine with its lane and budget."""

    header: StreamHeader | None = None
    lane: RecordingLane = field(default_factory=RecordingLane)
    budget: WindowBudget = field(default_factory=WindowBudget)
    machine: StreamMachine = field(init=False)

    def __post_init__(self) -> None:
        self.machine = StreamMachine(PEER, self.lane, ReceiveCredit(self.budget), self.header)

    def feed(self, *data: bytes, end: bool = False) -> None:
        self.machine.data_received(b"".join(data), end)


def opened() -> tuple[End, End]:
    opener, accepter = End(HEADER), End()
    carry(opener, accepter)
    return opener, accepter


def carry(source: End, target: End) -> None:
    """Deliver what `source` has written so far."""
    data, ends = b"".join(source.lane.written), source.lane.ends
    source.lane.written, source.lane.ends = [], 0
    if data or ends:
        target.feed(data, end=bool(ends))


def message(payload: bytes) -> Record:
    return Record(RecordKind.MESSAGE, payload)


def test_header_goes_first() -> None:
    _opener, accepter = opened()
    assert accepter.machine.header == HEADER
    assert not accepter.machine.is_readable


@pytest.mark.parametrize(
    "first",
    [
        encode_record(RecordKind.MESSAGE, b"no header"),
        encode_record(RecordKind.OPEN, b"\xc1 not MessagePack"),
        encode_record(RecordKind.OPEN, b"\x80"),
        encode_record(RecordKind.OPEN, b"x" * 2000),
        encode_record(RecordKind.CREDIT, encode_grant(1)),
        encode_record(RecordKind.FINISH, b""),
    ],
)
def test_stream_that_does_not_begin_with_a_header_is_cut(first: bytes) -> None:
    end = End()
    end.feed(first)
    assert end.lane.abandoned == [ResetCode.PROTOCOL_ERROR]
    assert end.lane.forgotten == 1
    assert isinstance(end.machine.failure, ProtocolError)
    assert end.budget.used_bytes == 0


@pytest.mark.parametrize(
    "then",
    [
        OPEN,
        encode_record(RecordKind.FINISH, b"not empty"),
        encode_record(RecordKind.FINISH, b"") * 2,
        encode_record(RecordKind.FINISH, b"") + encode_record(RecordKind.DATA, b"after the end"),
        encode_record(RecordKind.CREDIT, b"short"),
        encode_record(RecordKind.CREDIT, encode_grant(2**31)),
        b"\xff\xff\xff\xff\x02",
        encode_record(RecordKind.DATA, b"x" * INITIAL_WINDOW_BYTES) + encode_record(RecordKind.DATA, b"past credit"),
    ],
)
def test_what_the_protocol_does_not_allow_cuts_the_stream(then: bytes) -> None:
    end = End()
    end.feed(OPEN, then)
    assert end.lane.abandoned == [ResetCode.PROTOCOL_ERROR]
    with pytest.raises(ProtocolError):
        while end.machine.take() is not None:
            pass


def test_end_in_the_middle_of_a_record_is_not_a_finish() -> None:
    opener, _accepter = opened()
    opener.machine.finish()
    opener.feed(b"\x00\x00", end=True)
    assert isinstance(opener.machine.failure, ProtocolError)


def test_end_before_our_finish_is_not_a_finish() -> None:
    end = End()
    end.feed(OPEN, end=True)
    assert isinstance(end.machine.failure, ProtocolError)


@pytest.mark.parametrize("first", ["opener", "accepter", "both"])
def test_both_finished_frees_both_ends(first: str) -> None:
    opener, accepter = opened()
    match first:
        case "opener":
            opener.machine.finish()
            carry(opener, accepter)
            accepter.machine.finish()
        case "accepter":
            accepter.machine.finish()
            carry(accepter, opener)
            opener.machine.finish()
        case _:
            opener.machine.finish()
            accepter.machine.finish()
    for _ in range(3):
        carry(accepter, opener)
        carry(opener, accepter)
    for end in (opener, accepter):
        assert end.lane.forgotten == 1
        assert end.lane.abandoned == []
        assert end.machine.failure is None
        assert end.budget.used_bytes == 0
        assert end.machine.take() is None


def test_finished_side_still_grants_credit() -> None:
    opener, accepter = opened()
    opener.machine.finish()
    carry(opener, accepter)
    for _ in range(100):
        assert accepter.machine.is_sendable
        accepter.machine.send(Record(RecordKind.DATA, b"x" * 30000))
        carry(accepter, opener)
        opener.machine.take()
        carry(opener, accepter)


def test_sender_stops_without_credit_and_goes_on_with_it() -> None:
    opener, accepter = opened()
    while opener.machine.is_sendable:
        opener.machine.send(Record(RecordKind.DATA, b"x" * 8192))
    carry(opener, accepter)
    while accepter.machine.is_readable:
        accepter.machine.take()
    carry(accepter, opener)
    assert opener.machine.is_sendable


def test_reset_by_the_peer_ends_both_directions() -> None:
    opener, _accepter = opened()
    opener.machine.reset_received(ResetCode.BUSY)
    assert opener.lane.abandoned == [ResetCode.BUSY]
    assert opener.lane.forgotten == 1
    with pytest.raises(StreamReset):
        opener.machine.take()
    with pytest.raises(StreamReset):
        opener.machine.send(message(b"late"))


def test_answer_that_was_finished_outlives_reset_and_loss() -> None:
    endings: list[Callable[[StreamMachine], None]] = [
        lambda machine: machine.reset_received(ResetCode.CANCELLED),
        lambda machine: machine.connection_lost("cut"),
    ]
    for ending in endings:
        opener, accepter = opened()
        accepter.machine.send(message(b"answer"))
        accepter.machine.finish()
        carry(accepter, opener)
        ending(opener.machine)
        assert opener.machine.take() == message(b"answer")
        assert opener.machine.take() is None


def test_unfinished_answer_does_not() -> None:
    opener, accepter = opened()
    accepter.machine.send(message(b"half an answer"))
    carry(accepter, opener)
    opener.machine.connection_lost("cut")
    with pytest.raises(Unreachable):
        opener.machine.take()


def test_own_reset_forgets_what_was_not_read() -> None:
    opener, accepter = opened()
    accepter.machine.send(message(b"answer"))
    accepter.machine.finish()
    carry(accepter, opener)
    opener.machine.reset(ResetCode.CANCELLED)
    opener.machine.reset(ResetCode.BUSY)
    assert opener.lane.abandoned == [ResetCode.CANCELLED]
    with pytest.raises(StreamReset):
        opener.machine.take()


def test_loss_after_both_finished_is_no_failure() -> None:
    opener, accepter = opened()
    opener.machine.finish()
    carry(opener, accepter)
    accepter.machine.finish()
    carry(accepter, opener)
    carry(opener, accepter)
    for end in (opener, accepter):
        end.machine.connection_lost("gone")
        end.machine.reset_received(ResetCode.CANCELLED)
        assert end.lane.forgotten == 1
        assert end.machine.take() is None


@given(st.lists(st.binary(max_size=200), max_size=30), st.booleans())
def test_no_bytes_of_a_peer_raise_anything(pieces: list[bytes], has_header: bool) -> None:
    end = End()
    if has_header:
        end.feed(OPEN)
    for piece in pieces:
        end.feed(piece)
    assert end.lane.forgotten == (1 if end.machine.failure else 0)


records = st.sampled_from(RecordKind)


@given(st.lists(st.tuples(records, st.binary(max_size=8)), max_size=40))
def test_no_sequence_of_records_raises_anything(sequence: list[tuple[RecordKind, bytes]]) -> None:
    end = End()
    end.feed(OPEN)
    for kind, payload in sequence:
        end.feed(encode_record(kind, payload))
        if end.machine.is_readable and end.machine.failure is None:
            end.machine.take()
    assert end.lane.forgotten <= 1
