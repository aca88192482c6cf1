"""Cuts a stream of server-sent events only where an event ends, so that another may follow at any time.

An engine that dies in the middle of an event would otherwise leave half a line, and the error event
after it would not be one. Nothing is parsed: a blank line ends an event (HTML Living Standard §9.2.6).
"""

from __future__ import annotations

EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
LONGEST_END_BYTES = max(map(len, EVENT_ENDS))
MAX_HELD_BYTES = 1 << 20


class WholeEvents:
    """Give `feed` the chunks as they come; what it returns ends with a whole event, or is empty."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """What may go out now. Usually `chunk` itself: engines write an event at a time.

        An event of more than `MAX_HELD_BYTES` goes out in pieces.
        """
        if not self._held and chunk.endswith(EVENT_ENDS):
            return chunk
        # Only an end that `chunk` completes can be new: a long event in many pieces is not searched again and again.
        seen_bytes = max(0, len(self._held) - LONGEST_END_BYTES + 1)
        self._held += chunk
        cut = _last_end(self._held, seen_bytes) if len(self._held) <= MAX_HELD_BYTES else len(self._held)
        out = bytes(self._held[:cut])
        del self._held[:cut]
        return out

    def rest(self) -> bytes:
        """What is left when the stream ended in order."""
        held, self._held = self._held, bytearray()
        return bytes(held)


def _last_end(data: bytearray, start: int) -> int:
    """One past the last event's end in `data` that begins at `start` or later; 0 when there is none."""
    return max(at + len(end) if (at := data.rfind(end, start)) >= 0 else 0 for end in EVENT_ENDS)
