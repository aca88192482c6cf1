"""What an endpoint holds for the layers above until they take it: changes of links, datagrams, streams.

Each queue has a bound. Changes are never dropped; of too many datagrams the oldest go, of too many streams the newest
are refused, both at the cost of the peer that has the most waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from transport.errors import ResetCode
from transport.fair_queue import FairQueue, Sacrifice
from transport.interface import DatagramReceived, LinkChanged, NodeId, Stream, TransportEvent

MAX_WAITING_STREAMS = 256
MAX_WAITING_DATAGRAMS = 1024
MAX_WAITING_CHANGES = 65536


class Inbox:
    """Two queues with one consumer each, until `close`. dropped_datagrams: those that nobody took in time."""

    def __init__(self) -> None:
        self._changes: deque[LinkChanged] = deque()
        self._datagrams: FairQueue[DatagramReceived] = FairQueue(MAX_WAITING_DATAGRAMS, Sacrifice.OLDEST)
        self._streams: FairQueue[Stream] = FairQueue(MAX_WAITING_STREAMS, Sacrifice.NEWEST)
        self._event_ready = asyncio.Event()
        self._stream_ready = asyncio.Event()
        self._is_open = True
        self.dropped_datagrams = 0

    def put_change(self, change: LinkChanged) -> None:
        if len(self._changes) >= MAX_WAITING_CHANGES:
            raise RuntimeError("nobody takes the events of this transport")
        self._changes.append(change)
        self._event_ready.set()

    def put_datagram(self, node: NodeId, payload: bytes) -> None:
        if self._datagrams.put(node, DatagramReceived(node, payload)) is not None:
            self.dropped_datagrams += 1
        self._event_ready.set()

    def put_stream(self, stream: Stream) -> None:
        """Queue a stream that a peer opened; of too many, the peer with the most of them sees one reset with BUSY."""
        too_many = self._streams.put(stream.peer.node, stream)
        if too_many is not None:
            too_many.reset(ResetCode.BUSY)
        self._stream_ready.set()

    def close(self) -> None:
        """End both iterators once they have given what is here."""
        self._is_open = False
        self._event_ready.set()
        self._stream_ready.set()

    async def events(self) -> AsyncIterator[TransportEvent]:
        while True:
            while self._changes or self._datagrams:
                # Changes first: nobody hears from a peer before hearing of it.
                yield self._changes.popleft() if self._changes else self._datagrams.take()
            if not self._is_open:
                return
            self._event_ready.clear()
            await self._event_ready.wait()

    async def streams(self) -> AsyncIterator[Stream]:
        while True:
            while self._streams:
                yield self._streams.take()
            if not self._is_open:
                return
            self._stream_ready.clear()
            await self._stream_ready.wait()
