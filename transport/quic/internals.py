"""Every place where we reach into aioquic's private state, why, and nowhere else.

The pin `aioquic <1.8` in pyproject.toml stands for this file; its test fails when a field has moved.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection, QuicNetworkPath
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketSpace
from aioquic.quic.stream import QuicStream

BURST_S = 0.002
PACING_GAIN = 1.25
_MARK = QuicStream()
"""Has nothing to send, ever."""

STREAM_WINDOW_BYTES = 4 << 20
"""Of one stream, once it has carried something; our own credit (1 to 4 MiB) is what holds a sender back."""


class BoundedConnection(QuicConnection):
    """Lets a peer send so much beyond what has arrived whole, and no more; takes time for busy streams only.

    aioquic doubles a limit whenever half of it is used, where used means the highest offset seen. So one byte at the
    end of the limit made it keep room for everything before, and raise the limit: a stranger who had proved nothing
    could double that room with every round trip.

    And it looks three times at every open stream for every packet: beside 200 streams that wait for their readers,
    others got 0.44 of what they get alone (bench.stalled_streams). So each burst of packets is written as if only
    those streams were open that have something to send or have come to their end. Nothing that happens while packets
    are written gives work to a stream that had none before.
    """

    window_bytes = 0
    """Of all streams together; 0 until `widen`, when what was allowed at first is all there is."""

    _open_streams: dict[int, QuicStream] | None = None
    """All of them, while `_streams` are the busy ones."""

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        everyone, queue = self._streams, self._streams_queue
        busy = {number: stream for number, stream in everyone.items() if not _is_idle(stream)}
        self._open_streams, self._streams = everyone, busy.copy()
        # aioquic moves a stream behind all others when it sends: what ends up behind the mark has sent.
        self._streams_queue = [*(stream for stream in queue if stream.stream_id in busy), _MARK]
        try:
            super()._write_application(builder, network_path, now)
        finally:
            over = busy.keys() - self._streams.keys()
            for number in over:
                del everyone[number]
            sent = self._streams_queue[self._streams_queue.index(_MARK) + 1 :]
            moved = over.union(stream.stream_id for stream in sent)
            self._open_streams, self._streams = None, everyone
            self._streams_queue = (
                [stream for stream in queue if stream.stream_id not in moved] + sent if moved else queue
            )

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        if limit.value - limit.used < self.window_bytes // 2:
            limit.value = max(limit.value, limit.used - self._missing_bytes() + self.window_bytes)
        used, limit.used = limit.used, 0  # hides the reason to double it
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        stream.max_stream_data_local = _limit_of(stream)
        if stream.max_stream_data_local != stream.max_stream_data_local_sent:
            receiver = stream.receiver
            highest, receiver.highest_offset = receiver.highest_offset, 0
            try:
                super()._write_stream_limits(builder, space, stream)
            finally:
                receiver.highest_offset = highest

    def _missing_bytes(self) -> int:
        """What streams keep room for, from the first byte that has not arrived to the last that has."""
        everyone = self._streams if self._open_streams is None else self._open_streams
        return sum(len(stream.receiver._buffer) for stream in everyone.values())


def _is_idle(stream: QuicStream) -> bool:
    """Whether `stream` has nothing to send, neither data nor limits nor an end, and is not over."""
    sender, receiver, limit = stream.sender, stream.receiver, stream.max_stream_data_local
    return (
        sender.buffer_is_empty
        and not sender.reset_pending
        and not receiver.stop_pending
        and not (sender.is_finished and receiver.is_finished)
        and limit == stream.max_stream_data_local_sent
        and (receiver.highest_offset * 2 <= limit or _limit_of(stream) == limit)
    )


def _limit_of(stream: QuicStream) -> int:
    """How far the peer may send on `stream`: raised when half is used, and then by so much that it is worth a frame."""
    receiver, limit = stream.receiver, stream.max_stream_data_local
    if receiver.highest_offset * 2 <= limit or receiver.is_finished:
        return limit
    wanted = receiver.starting_offset() + STREAM_WINDOW_BYTES
    return wanted if wanted - limit >= STREAM_WINDOW_BYTES // 4 else limit


def allow_streams(quic: QuicConnection, bidirectional: int) -> None:
    """Set how many streams the peer may open before anything is sent; aioquic offers 128 of each kind.

    A peer that is not admitted needs one, or none.
    """
    quic._local_max_streams_bidi.value = quic._local_max_streams_bidi.sent = bidirectional
    quic._local_max_streams_uni.value = quic._local_max_streams_uni.sent = 0


def widen(quic: BoundedConnection, bidirectional: int, window_bytes: int) -> None:
    """Raise the peer's limits on a running connection; aioquic announces them with its next packet."""
    quic._local_max_streams_bidi.value = max(quic._local_max_streams_bidi.value, bidirectional)
    quic.window_bytes = window_bytes


def peer_connection_id(quic: QuicConnection) -> bytes:
    """The connection id that the peer chose for packets to it, the one in use."""
    connection_id: bytes = quic._peer_cid.cid
    return connection_id


def drop_oldest_datagrams(quic: QuicConnection, keep: int) -> int:
    """Bound what waits for congestion control; aioquic's own queue has no end. Returns how many went."""
    waiting = quic._datagrams_pending
    excess = max(0, len(waiting) - keep)
    for _ in range(excess):
        waiting.popleft()
    return excess


class BurstPacer(QuicPacketPacer):
    """Paces by the millisecond instead of by the packet.

    aioquic lets 16 packets go and then waits for a timer per packet, tens of microseconds on a LAN. Timers count in
    milliseconds (uvloop) or cost a loop turn each, so most of the time nothing was sent: 64 MB took 13 s of wall
    time for 3.6 s of CPU. Bursts of `BURST_S` at 1.25 times the rate (RFC 9002 §7.7) take that waiting away.
    """

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(int(congestion_window * PACING_GAIN), smoothed_rtt)
        self.bucket_max = max(self.bucket_max, BURST_S)


def pace_in_bursts(quic: QuicConnection) -> None:
    """Give the connection a `BurstPacer`. Before the handshake."""
    quic._loss._pacer = BurstPacer(max_datagram_size=quic.configuration.max_datagram_size)
