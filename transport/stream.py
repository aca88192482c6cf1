"""One stream's rules, without I/O: header first, records under credit, finish, reset, loss.

Bytes from the carrier go in, records come out to the consumer, and everything for the carrier leaves
through the three calls of `Lane`. `record_stream` adds the waiting; quic, memory and bulk bring the lanes.

A finished side still has to grant credit for what comes back, so `finish` sends a FINISH record and the
lane's own end (FIN) follows once neither direction needs it: the end that finishes last sends only the FIN,
the other answers with its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from transport import wire
from transport.credit import ReceiveCredit, SendCredit, cost_bytes, decode_grant, encode_grant
from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, Unreachable
from transport.interface import NodeId, Record, RecordKind, StreamHeader
from transport.record import RecordReader, encode_record

MAX_HEADER_BYTES = 1024


class Lane(Protocol):
    """The carrier's side of one stream. None of these waits; after `forget` none is called again."""

    def send(self, kind: RecordKind, payload: bytes) -> None:
        """Send one record, in order with what is written. Carriers that need not join its bytes do not copy it."""

    def write(self, data: bytes, end: bool) -> None:
        """Send `data` in order; with `end`, say that no more bytes follow (FIN)."""

    def abandon(self, code: int) -> None:
        """Reset our direction and ask the peer to stop its own."""

    def forget(self) -> None:
        """Both directions are over: drop what is kept for this stream. Called exactly once."""


class StreamMachine:
    """The state of one stream at one end.

    header: what we open it with, or None when the peer opened it and its OPEN record is yet to come.
    """

    __slots__ = (
        "_finish_sent",
        "_finished_here",
        "_finished_there",
        "_inbox",
        "_is_over",
        "_lane",
        "_peer",
        "_reader",
        "_receive_credit",
        "_send_credit",
        "failure",
        "header",
    )

    def __init__(self, peer: NodeId, lane: Lane, credit: ReceiveCredit, header: StreamHeader | None = None) -> None:
        self._peer = peer
        self._lane = lane
        self._receive_credit = credit
        self._send_credit = SendCredit()
        self._reader = RecordReader()
        self._inbox: deque[Record] = deque()
        self._finished_here = False
        self._finished_there = False
        self._finish_sent = False
        self._is_over = False
        self.failure: MeshError | None = None
        self.header = header
        if header is not None:
            lane.write(encode_record(RecordKind.OPEN, wire.encode(header)), end=False)

    # What the user of the stream does

    @property
    def is_sendable(self) -> bool:
        """Whether `send` would go through, or fail, at once."""
        return self._send_credit.has_room or self.failure is not None

    def send(self, record: Record) -> None:
        """Hand one record to the lane; call only while `is_sendable`."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self._finished_here:
            raise RuntimeError(f"send after finish on stream {self.header}")
        self._lane.send(record.kind, record.payload)
        self._send_credit.spend(cost_bytes(record.payload))

    @property
    def is_readable(self) -> bool:
        """Whether `take` would return, or fail, at once."""
        return bool(self._inbox) or self._finished_there or self.failure is not None

    def take(self) -> Record | None:
        """The next record, None at the end; call only while `is_readable`."""
        if self._inbox:
            record = self._inbox.popleft()
            self._grant_for(record)
            return record
        if self._finished_there:
            return None
        assert self.failure is not None
        raise self.failure.with_traceback(None)

    def finish(self) -> None:
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self._finished_here:
            return
        self._finished_here = True
        if self._finished_there:
            self._end_lane()
        else:
            self._lane.write(encode_record(RecordKind.FINISH, b""), end=False)

    def reset(self, code: ResetCode) -> None:
        self._inbox.clear()
        self._finished_there = False
        self._fail(StreamReset(code, f"stream was reset here: {code.name}"), code)

    # What the carrier reports

    def data_received(self, data: bytes, end: bool) -> None:
        if self._is_over:
            return
        try:
            records = self._reader.feed(data)
        except ProtocolError as error:
            self._break_off(error)
        else:
            self.records_received(records, end)

    def records_received(self, records: Iterable[Record], end: bool) -> None:
        """For lanes that cut records themselves."""
        if self._is_over:
            return
        try:
            for record in records:
                self._record_received(record)
            if end:
                self._end_received()
        except ProtocolError as error:
            self._break_off(error)

    def reset_received(self, code: int) -> None:
        self._fail(StreamReset(code), code)

    def connection_lost(self, reason: str) -> None:
        if not self._is_over:
            self._fail(Unreachable(reason), None)

    # Inside

    def _record_received(self, record: Record) -> None:
        if self.header is None:
            self._open_received(record)
            return
        match record.kind:
            case RecordKind.MESSAGE | RecordKind.DATA:
                self._require(not self._finished_there, "no record after FINISH")
                self._receive_credit.arrived(cost_bytes(record.payload))
                self._inbox.append(record)
            case RecordKind.CREDIT:
                self._send_credit.grant(decode_grant(record.payload))
            case RecordKind.FINISH:
                self._require(not self._finished_there and not record.payload, "one empty FINISH")
                self._finished_there = True
                if self._finished_here:
                    self._end_lane()
            case RecordKind.OPEN:
                self._require(False, "OPEN only at the start")

    def _open_received(self, record: Record) -> None:
        self._require(record.kind is RecordKind.OPEN, "a stream to begin with OPEN")
        self.header = wire.decode(record.payload, StreamHeader, peer=self._peer, max_bytes=MAX_HEADER_BYTES)

    def _end_received(self) -> None:
        self._require(self._reader.is_between_records, "whole records before the end")
        # Its end would leave us without credit for ever, so a peer ends only after our own finish.
        self._require(self._finished_here, "FINISH and no end while we are still sending")
        self._finished_there = True
        if not self._finish_sent:
            self._end_lane()
        self._end()

    def _end_lane(self) -> None:
        self._finish_sent = True
        self._lane.write(b"", end=True)

    def _grant_for(self, record: Record) -> None:
        if self._finished_there or self._is_over:
            return
        grant = self._receive_credit.taken(cost_bytes(record.payload))
        if grant:
            self._lane.write(encode_record(RecordKind.CREDIT, encode_grant(grant)), end=False)

    def _require(self, holds: bool, expected: str) -> None:
        if not holds:
            raise ProtocolError(f"stream {self.header}: expected {expected}")

    def _break_off(self, error: ProtocolError) -> None:
        self._finished_there = False  # nothing it said counts
        self._fail(error, ResetCode.PROTOCOL_ERROR)

    def _fail(self, failure: MeshError, code: int | None) -> None:
        if self.failure is not None:
            return
        self.failure = failure
        if not self._finished_there:
            self._inbox.clear()
        if not self._is_over:
            if code is not None:
                self._lane.abandon(code)
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._receive_credit.close()
        self._lane.forget()
