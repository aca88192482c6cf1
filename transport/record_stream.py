"""The waiting around a stream: `StreamMachine` decides, this parks whoever must wait for credit or a record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from transport.credit import ReceiveCredit
from transport.errors import MeshError, ResetCode
from transport.interface import Peer, Record, RecordKind, StreamHeader
from transport.stream import Lane, StreamMachine

_SENDABLE = (RecordKind.MESSAGE, RecordKind.DATA)


class RecordStream:
    """Implements `interface.Stream` over any lane; the carrier feeds it what arrives."""

    __slots__ = ("_machine", "_peer", "_reader", "_writers")

    def __init__(self, peer: Peer, lane: Lane, credit: ReceiveCredit, header: StreamHeader | None = None) -> None:
        self._peer = peer
        self._machine = StreamMachine(peer.node, lane, credit, header)
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []

    @property
    def peer(self) -> Peer:
        return self._peer

    @property
    def header(self) -> StreamHeader:
        header = self._machine.header
        assert header is not None, "a stream is handed out only after its header arrived"
        return header

    @property
    def has_header(self) -> bool:
        return self._machine.header is not None

    @property
    def failure(self) -> MeshError | None:
        return self._machine.failure

    async def send(self, record: Record) -> None:
        if record.kind not in _SENDABLE:
            raise ValueError(f"a stream sends MESSAGE and DATA records, not {record.kind.name}")
        while not self._machine.is_sendable:
            await self._credit()
        self._machine.send(record)

    async def receive(self) -> Record | None:
        while not self._machine.is_readable:
            await self._arrival()
        return self._machine.take()

    async def finish(self) -> None:
        self._machine.finish()

    def reset(self, code: ResetCode) -> None:
        self._machine.reset(code)
        self._wake()

    # What the carrier reports

    def data_received(self, data: bytes, end: bool) -> None:
        self._machine.data_received(data, end)
        self._wake()

    def records_received(self, records: Iterable[Record], end: bool) -> None:
        self._machine.records_received(records, end)
        self._wake()

    def reset_received(self, code: int) -> None:
        self._machine.reset_received(code)
        self._wake()

    def connection_lost(self, reason: str) -> None:
        self._machine.connection_lost(reason)
        self._wake()

    # Waiting

    async def _credit(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._writers.append(turn)
        try:
            await turn
        finally:
            if turn in self._writers:
                self._writers.remove(turn)

    async def _arrival(self) -> None:
        if self._reader is not None:
            raise RuntimeError(f"two tasks receive from stream {self.header}")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and self._machine.is_readable and not self._reader.done():
            self._reader.set_result(None)
        if self._writers and self._machine.is_sendable:
            for turn in self._writers:
                if not turn.done():
                    turn.set_result(None)
