"""How much a sender may have on its way to a consumer that has not taken it yet.

Back-pressure is ours because QUIC's is not: aioquic widens its windows on bytes received, read or not.
Both ends start at `INITIAL_WINDOW_BYTES` without a word, so a request needs no round trip. A receiver whose
consumer keeps taking doubles the window up to its limit; one that takes nothing grants nothing.

A record may start while any credit is left and then runs into debt, so that a record larger than the
window still passes: what a receiver can be made to hold is its window and one record, and nothing waits
for ever. `stream` counts with these; `record` frames the grants.
"""

from __future__ import annotations

import struct

from transport.errors import ProtocolError

INITIAL_WINDOW_BYTES = 64 << 10
DEFAULT_WINDOW_BYTES = 1 << 20
WAN_WINDOW_BYTES = 4 << 20
DEFAULT_BUDGET_BYTES = 256 << 20

MAX_CREDIT_BYTES = 64 << 20
"""No window is this large: a peer that grants more is not counting."""

RECORD_OVERHEAD_BYTES = 64
"""Charged for each record on top of its payload: about what a small one costs in memory, so a flood of
empty records is bounded too."""

_GRANT = struct.Struct("!I")


def cost_bytes(payload: bytes) -> int:
    """What a record with `payload` takes from the credit of its sender."""
    return len(payload) + RECORD_OVERHEAD_BYTES


def encode_grant(grant_bytes: int) -> bytes:
    return _GRANT.pack(grant_bytes)


def decode_grant(payload: bytes) -> int:
    """Bytes granted by a CREDIT record. Raises ProtocolError."""
    if len(payload) != _GRANT.size:
        raise ProtocolError(f"expected a credit of {_GRANT.size} bytes, got {len(payload)}")
    grant_bytes: int = _GRANT.unpack(payload)[0]
    return grant_bytes


class SendCredit:
    """What the peer still lets us send on one stream."""

    __slots__ = ("available_bytes",)

    def __init__(self) -> None:
        self.available_bytes = INITIAL_WINDOW_BYTES

    @property
    def has_room(self) -> bool:
        return self.available_bytes > 0

    def spend(self, cost: int) -> None:
        self.available_bytes -= cost

    def grant(self, grant_bytes: int) -> None:
        if self.available_bytes + grant_bytes > MAX_CREDIT_BYTES:
            raise ProtocolError(f"expected credit of at most {MAX_CREDIT_BYTES} bytes, got {grant_bytes} more")
        self.available_bytes += grant_bytes


class WindowBudget:
    """Memory that the windows of all streams of one endpoint share.

    The initial windows are promised to peers without asking, so they count even past the limit;
    growth beyond them waits for room.
    """

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def promise(self, size: int) -> None:
        self.used_bytes += size

    def reserve(self, wanted_bytes: int) -> int:
        """Take up to `wanted_bytes`; returns what there was, possibly 0."""
        granted = max(0, min(wanted_bytes, self.limit_bytes - self.used_bytes))
        self.used_bytes += granted
        return granted

    def release(self, size: int) -> None:
        self.used_bytes -= size


class ReceiveCredit:
    """What we still let the peer send on one stream, and when to grant more."""

    __slots__ = ("_budget", "_limit_bytes", "_outstanding_bytes", "_taken_bytes", "window_bytes")

    def __init__(self, budget: WindowBudget, limit_bytes: int = DEFAULT_WINDOW_BYTES) -> None:
        self._budget = budget
        self._limit_bytes = limit_bytes
        self.window_bytes = INITIAL_WINDOW_BYTES
        self._outstanding_bytes = INITIAL_WINDOW_BYTES
        self._taken_bytes = 0
        budget.promise(INITIAL_WINDOW_BYTES)

    def arrived(self, cost: int) -> None:
        """Count a record from the peer. Raises ProtocolError when it had no credit left to start one."""
        if self._outstanding_bytes <= 0:
            raise ProtocolError(f"expected no record past a window of {self.window_bytes} bytes, got one more")
        self._outstanding_bytes -= cost

    def taken(self, cost: int) -> int:
        """Count a record that the consumer took; returns what to grant the peer now, mostly 0.

        Grants go out in steps of a quarter window, so that sender and consumer work at the same time, and the
        window doubles with each until it reaches its limit or the budget is spent.
        """
        self._taken_bytes += cost
        if self._taken_bytes * 4 < self.window_bytes:
            return 0
        growth = self._budget.reserve(min(self.window_bytes, self._limit_bytes - self.window_bytes))
        self.window_bytes += growth
        grant = self._taken_bytes + growth
        self._outstanding_bytes += grant
        self._taken_bytes = 0
        return grant

    def close(self) -> None:
        """Give the window back to the budget. Safe to call twice."""
        self._budget.release(self.window_bytes)
        self.window_bytes = 0
        self._outstanding_bytes = 0
