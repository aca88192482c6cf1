"""A peer that speaks QUIC by itself and keeps no rules: aioquic driven by hand on a socket of its own."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived

from transport.interface import Address
from transport.quic.session import ALPN


class Stranger(asyncio.DatagramProtocol):
    """Use as `async with`. events: everything aioquic reported, in order."""

    def __init__(self, target: Address, alpn: str = ALPN, configuration: QuicConfiguration | None = None) -> None:
        self.target = (target.host, target.port)
        configuration = configuration or QuicConfiguration(alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE)
        self.tickets: list[object] = []
        self.quic = QuicConnection(configuration=configuration, session_ticket_handler=self.tickets.append)
        self.events: list[QuicEvent] = []
        self._happened = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.socket, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.socket.close()

    def first_flight(self) -> list[bytes]:
        """The datagrams that begin a handshake, not sent."""
        self.quic.connect(self.target, time.monotonic())
        return [data for data, _ in self.quic.datagrams_to_send(time.monotonic())]

    def begin(self) -> None:
        self.quic.connect(self.target, time.monotonic())
        self.transmit()

    def transmit(self) -> None:
        now = time.monotonic()
        for data, address in self.quic.datagrams_to_send(now):
            self.socket.sendto(data, address)
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self.quic.get_timer()
        if wake_at is not None:
            self._timer = asyncio.get_running_loop().call_at(wake_at, self._timer_fired)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.quic.receive_datagram(data, address, time.monotonic())
        self._take_events()
        self.transmit()

    async def until(self, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                self._happened.clear()
                await self._happened.wait()

    async def shake_hands(self) -> None:
        """Complete TLS."""
        self.begin()
        await self.until(lambda: self.saw(HandshakeCompleted))

    async def end(self, within_s: float = 60.0) -> ConnectionTerminated:
        """Wait until the other end closes, and how it did."""
        await self.until(lambda: self.was_cut, within_s)
        assert self.quic._close_event is not None
        return self.quic._close_event

    @property
    def was_cut(self) -> bool:
        """Whether the end of the connection was said. aioquic tells of it three probe timeouts later."""
        return self.quic._close_event is not None

    def saw(self, kind: type[QuicEvent]) -> bool:
        return any(isinstance(event, kind) for event in self.events)

    def received(self, stream: int) -> bytes:
        return b"".join(
            event.data for event in self.events if isinstance(event, StreamDataReceived) and event.stream_id == stream
        )

    def _timer_fired(self) -> None:
        wake_at = self.quic.get_timer()
        if wake_at is not None:
            self.quic.handle_timer(max(time.monotonic(), wake_at))
            self._take_events()
            self.transmit()

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)
        self._happened.set()


def write_far_ahead(quic: QuicConnection, stream: int) -> None:
    """Let `quic` send one byte of `stream` at the last offset that the other end allows, and nothing before it."""
    sender = quic._streams[stream].sender
    allowed = sender.highest_offset + quic._remote_max_data - quic._remote_max_data_used
    offset = min(quic._streams[stream].max_stream_data_remote, allowed) - 1
    sender._buffer.clear()
    sender._buffer_start = sender._buffer_stop = offset
    sender.write(b"x")
