"""How long carrying takes between this node and others, learnt from calls that were carried. Pure.

Small calls tell what a round trip takes, with all that both ends do for it; large ones what a byte does.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forms.choice import Shape, Way
from transport.interface import BULK_FROM_BYTES

Target = TypeVar("Target", bound=Hashable)

USUAL_ROUND_TRIP_S = 0.003
"""On a LAN, with two Python ends, before anything was carried."""
USUAL_BYTES_PER_S = {False: 20e6, True: 80e6}
"""Of a QUIC connection, and of a bulk lane (docs/benchmarks.md)."""
SMALL_BYTES = 16 << 10
TELLING_BYTES = 256 << 10
WARMTH = 0.3
"""How far each call moves what is known."""
MOST_OFF = 4.0
FORGOTTEN_S = 300.0
"""A way that was bad is tried again after so long without a call."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One call. up_s: from asking to the reply's first bytes, without what it spent there.  down_s: to the last."""

    bytes_in: int
    up_s: float
    bytes_out: int
    down_s: float


@dataclass(slots=True)
class _Known:
    round_trip_s: float
    up_s_per_byte: float
    down_s_per_byte: float
    told: float

    def learn(self, carried: Carried) -> None:
        if carried.bytes_in <= SMALL_BYTES or carried.up_s < self.round_trip_s:
            # What took less, bytes and all, says of the bytes nothing, and of the round trip that it is shorter.
            self.round_trip_s = _towards(self.round_trip_s, carried.up_s, WARMTH)
        else:
            up_s = carried.up_s - self.round_trip_s
            self.up_s_per_byte = _towards(self.up_s_per_byte, up_s / carried.bytes_in, _warmth(carried.bytes_in))
        if carried.bytes_out > SMALL_BYTES:
            down = carried.down_s / carried.bytes_out
            self.down_s_per_byte = _towards(self.down_s_per_byte, down, _warmth(carried.bytes_out))


def _warmth(size: int) -> float:
    """The fewer bytes, the more of what was seen is the round trip's own jitter."""
    return WARMTH * min(1.0, size / TELLING_BYTES)


def is_bulk(bytes_in: int, bytes_out: int) -> bool:
    """Whether such a call is worth a bulk lane."""
    return max(bytes_in, bytes_out) > BULK_FROM_BYTES


@dataclass(slots=True)
class WayBook(Generic[Target]):
    """The ways from this node: to each target one for small calls and one for bulk."""

    _known: dict[tuple[Target, bool], _Known] = field(default_factory=dict)

    def learn(self, target: Target, carried: Carried, now: float, round_trip_s: float | None = None) -> None:
        """Take in what carrying took. round_trip_s: of the link, for a way that was not used before."""
        key = target, is_bulk(carried.bytes_in, carried.bytes_out)
        known = self._known[key] = self._current(key, now, round_trip_s)
        known.told = now
        known.learn(carried)

    def way(self, target: Target, shape: Shape, now: float, round_trip_s: float | None = None) -> Way:
        """What carrying such a call to `target`, and its reply back, should take."""
        known = self._current((target, is_bulk(shape.bytes_in, shape.bytes_out)), now, round_trip_s)
        return Way(known.round_trip_s, known.up_s_per_byte, known.down_s_per_byte)

    def _current(self, key: tuple[Target, bool], now: float, round_trip_s: float | None) -> _Known:
        known = self._known.get(key)
        if known is not None and now - known.told < FORGOTTEN_S:
            return known
        s_per_byte = 1 / USUAL_BYTES_PER_S[key[1]]
        return _Known(max(USUAL_ROUND_TRIP_S, round_trip_s or 0.0), s_per_byte, s_per_byte, now)


def _towards(so_far: float, new: float, warmth: float) -> float:
    """Their weighted geometric mean; one call alone moves it no further than one that is four times off would."""
    bounded = min(MOST_OFF * so_far, max(so_far / MOST_OFF, new))
    return float(so_far ** (1 - warmth) * bounded**warmth)
