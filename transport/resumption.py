"""Decides what one end of a tunnel sends, sends again and acknowledges, and when it gives up.

A tunnel outlives the stream that carries it. What the far end's pipe has not taken yet is kept (`Replay`), so
that after a lost link the next stream goes on where the far end stopped hearing; what has arrived waits for the
pipe here (`Arrivals`). Neither holds more than a window: a sender reads its pipe only while it is less than that
ahead of what the far pipe took. `tunnel_end` moves the bytes; the pipe is mostly a TCP connection.

Times are the caller's monotonic clock. An end that owes an acknowledgement says something every `answer_s`, so
silence while something of ours is unacknowledged is the link's, not a slow reader's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from transport.errors import ProtocolError
from transport.tunnel_message import Attached, Ended, Frame, Position, Taken

DEFAULT_WINDOW_BYTES = 1 << 20
CHUNK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an end waits for what.

    cut_s: a link back within this continues the tunnel.  mend_s: what dialling and resuming may take on top once
    the way is open again; with it a cut of a second more than `cut_s` is still always the end.
    progress_s: without a byte or credit moving while some wait.  answer_s: how late an acknowledgement may be.
    """

    cut_s: float = 10.0
    mend_s: float = 0.9
    progress_s: float = 60.0
    answer_s: float = 1.0


class Verdict(Enum):
    """CUT: the peer was silent for too long.  STALLED: it answers, but its pipe, or ours, takes nothing."""

    FINE = "fine"
    CUT = "cut"
    STALLED = "stalled"


class Replay:
    """What the pipe here gave and the far pipe has not taken, by offset.

    taken: by the far pipe.  sent: over the present stream, or known to have arrived.
    """

    __slots__ = ("_far_window_bytes", "_has_ended", "_kept", "_read", "_window_bytes", "sent", "taken")

    def __init__(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._far_window_bytes = window_bytes
        self._kept = bytearray()
        self._read = 0
        self._has_ended = False
        self.taken = 0
        self.sent = 0

    @property
    def kept_bytes(self) -> int:
        return len(self._kept)

    @property
    def room_bytes(self) -> int:
        """How much may be read from the pipe now."""
        return 0 if self._has_ended else self._window_bytes - len(self._kept)

    @property
    def is_waiting(self) -> bool:
        """Whether the far end has yet to take something."""
        return self.taken < self._read + self._has_ended

    @property
    def is_settled(self) -> bool:
        """Whether everything, the end included, was taken there."""
        return self._has_ended and not self.is_waiting

    def read(self, data: bytes) -> None:
        self._kept += data
        self._read += len(data)

    def end(self) -> None:
        self._has_ended = True

    def next(self) -> bytes | Ended | None:
        """What to send now, counted as sent; None when there is nothing or the far window is full."""
        if self.sent < self._read:
            start = self.sent - self.taken
            stop = min(start + CHUNK_BYTES, self._far_window_bytes)
            chunk = bytes(memoryview(self._kept)[start:stop])
            self.sent += len(chunk)
            return chunk or None
        if self._has_ended and self.sent == self._read:
            self.sent += 1
            return Ended()
        return None

    def take(self, offset: int) -> None:
        """The far pipe has taken everything before `offset`. Raises ProtocolError."""
        if not self.taken <= offset <= self.sent:
            raise ProtocolError(f"expected {self.taken} to {self.sent} bytes taken, got {offset}")
        del self._kept[: offset - self.taken]
        self.taken = offset

    def resume(self, far: Position, window_bytes: int) -> None:
        """Go on from where the far end is. Raises ProtocolError."""
        if not far.taken <= far.arrived <= self.sent:
            raise ProtocolError(f"expected taken <= arrived <= {self.sent}, which was sent, got {far}")
        self.take(far.taken)
        self.sent = far.arrived
        self._far_window_bytes = window_bytes


class Arrivals:
    """What came from the far end and the pipe here has not taken, by offset. announced: what the far end knows."""

    __slots__ = ("_has_ended", "_kept", "announced", "arrived", "taken", "window_bytes")

    def __init__(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self._kept = bytearray()
        self._has_ended = False
        self.arrived = 0
        self.taken = 0
        self.announced = 0

    @property
    def kept_bytes(self) -> int:
        return len(self._kept)

    @property
    def is_waiting(self) -> bool:
        return self.taken < self.arrived

    @property
    def is_settled(self) -> bool:
        return self._has_ended and not self.is_waiting

    @property
    def is_worth_announcing(self) -> bool:
        """Whether the far end should hear at once what was taken: it may run dry, or is done."""
        news = self.taken - self.announced
        return news * 4 >= self.window_bytes or (news > 0 and self.is_settled)

    def put(self, data: bytes) -> None:
        """Raises ProtocolError when it is more than the window allows, nothing, or after the end."""
        room = self.window_bytes - (self.arrived - self.announced)
        if self._has_ended or not 0 < len(data) <= room:
            expected = "no bytes after the end" if self._has_ended else f"1 to {room} bytes"
            raise ProtocolError(f"expected {expected}, got {len(data)}")
        self._kept += data
        self.arrived += len(data)

    def end(self) -> None:
        if self._has_ended:
            raise ProtocolError("expected one end of the bytes, got another")
        self._has_ended = True
        self.arrived += 1

    def next(self) -> bytes | Ended | None:
        """What the pipe should take first; it stays kept until `took`, `took_end`."""
        if self._kept:
            return bytes(memoryview(self._kept)[:CHUNK_BYTES])
        return Ended() if self._has_ended and self.is_waiting else None

    def took(self, count: int) -> None:
        del self._kept[:count]
        self.taken += count

    def took_end(self) -> None:
        self.taken += 1

    def announce(self) -> int:
        self.announced = self.taken
        return self.taken


class Resumption:
    """One end of one tunnel, from its first byte to the last acknowledgement. Begins detached."""

    __slots__ = ("_announced_at", "_is_attached", "_patience", "_progress_at", "_silent_since", "arrivals", "replay")

    def __init__(self, now: float, window_bytes: int = DEFAULT_WINDOW_BYTES, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self.replay = Replay(window_bytes)
        self.arrivals = Arrivals(window_bytes)
        self._is_attached = False
        self._silent_since: float | None = now
        self._progress_at = now
        self._announced_at = now

    @property
    def is_done(self) -> bool:
        """Whether both directions have ended and every byte of them was taken. What fails then fails nobody."""
        return self.replay.is_settled and self.arrivals.is_settled

    # The pipe here

    def read(self, data: bytes, now: float) -> None:
        """The pipe gave `data`, at most `replay.room_bytes`."""
        self._begin_waiting(now)
        self.replay.read(data)

    def read_end(self, now: float) -> None:
        """The pipe will give no more."""
        self._begin_waiting(now)
        self.replay.end()

    def took(self, count: int, now: float) -> None:
        """The pipe took `count` bytes of `arrivals.next`."""
        self.arrivals.took(count)
        self._progress_at = now

    def took_end(self, now: float) -> None:
        self.arrivals.took_end()
        self._progress_at = now

    # The link

    def position(self) -> Position:
        """For the request or answer that is sent now; the far end knows what was taken from then on."""
        return Position(self.arrivals.arrived, self.arrivals.announce())

    def attached(self) -> Attached:
        """The answer that accepts a request of the far end."""
        return Attached(self.position(), self.arrivals.window_bytes)

    def attach(self, far: Position, window_bytes: int, now: float) -> None:
        """A stream carries the tunnel. far, window_bytes: what the other end said of itself. Raises ProtocolError."""
        self.replay.resume(far, window_bytes)
        self._is_attached = True
        self._heard(now)

    def detach(self, now: float) -> None:
        """The stream is lost. What it carried and the far end did not get will be sent again."""
        self._is_attached = False
        self._mark_silence(now)

    def next_frame(self, now: float) -> bytes | Frame | None:
        """What to send next over the stream; None when nothing is due."""
        if not self._is_attached:
            return None
        is_late = self.arrivals.announced < self.arrivals.arrived and self._is_overdue(now)
        if is_late or self.arrivals.is_worth_announcing:
            self._announced_at = now
            return Taken(self.arrivals.announce())
        frame = self.replay.next()
        if frame is not None:
            self._mark_silence(now)
        return frame

    def received(self, frame: bytes | Frame, now: float) -> None:
        """The far end sent `frame`. Raises ProtocolError."""
        match frame:
            case Taken(offset):
                if offset > self.replay.taken:
                    self._progress_at = now
                self.replay.take(offset)
            case Ended():
                self._owe(now)
                self.arrivals.end()
            case _:
                self._owe(now)
                self.arrivals.put(frame)
        self._heard(now)

    # Time

    def check(self, now: float) -> Verdict:
        """Judge the tunnel; call about twice a second."""
        if self.is_done:
            self._mark_silence(now)  # of the peer's last word
        if self._is_cut(now):
            return Verdict.CUT
        if self._is_waiting() and now - self._progress_at > self._patience.progress_s:
            return Verdict.STALLED
        return Verdict.FINE

    # Inside

    def _is_waiting(self) -> bool:
        return self.replay.is_waiting or self.arrivals.is_waiting

    def _begin_waiting(self, now: float) -> None:
        """An idle tunnel is not a stalled one: its time runs from the first byte that waits."""
        if not self._is_waiting():
            self._progress_at = now

    def _owe(self, now: float) -> None:
        """Something arrived, so an acknowledgement is due in time, counted from here when none was owed."""
        if self.arrivals.announced == self.arrivals.arrived:
            self._announced_at = now
        self._progress_at = now

    def _is_overdue(self, now: float) -> bool:
        return now - self._announced_at >= self._patience.answer_s

    def _mark_silence(self, now: float) -> None:
        if self._silent_since is None:
            self._silent_since = now

    def _is_cut(self, now: float) -> bool:
        patience_s = self._patience.cut_s + self._patience.mend_s
        return self._silent_since is not None and now - self._silent_since > patience_s

    def _heard(self, now: float) -> None:
        """What comes too late changes nothing: the other end has given up, or is about to."""
        if not self.is_done and not self._is_cut(now):
            self._silent_since = now if self.replay.is_waiting else None
