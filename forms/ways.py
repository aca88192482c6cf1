"""How long carrying takes between this node and others, learnt from calls that were carried. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forms.choice import Way
from forms.cost import Fit, Line

Target = TypeVar("Target", bound=Hashable)

# Before anything was carried: a round trip of a LAN with two Python ends, and what one QUIC connection carries.
USUAL_ROUND_TRIP_S = 0.003
USUAL_BYTES_PER_S = 30e6
KNOWN_SIZES = (1 << 16, 1 << 20, 1 << 24)
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
    up: Fit
    down: Fit
    told: float


@dataclass(slots=True)
class WayBook(Generic[Target]):
    """The ways from this node."""

    _known: dict[Target, _Known] = field(default_factory=dict)

    def learn(self, target: Target, carried: Carried, now: float, round_trip_s: float | None = None) -> None:
        """Take in what carrying took. round_trip_s: of the link, for a way that was not used before."""
        known = self._known.get(target)
        if known is None or now - known.told > FORGOTTEN_S:
            known = self._known[target] = _unused(round_trip_s, now)
        known.told = now
        known.up.learn(carried.bytes_in, max(0.0, carried.up_s))
        known.down.learn(carried.bytes_out, max(0.0, carried.down_s))

    def way(self, target: Target, now: float, round_trip_s: float | None = None) -> Way:
        """What carrying to `target` and back should take."""
        known = self._known.get(target)
        if known is None or now - known.told > FORGOTTEN_S:
            known = _unused(round_trip_s, now)
        up, down = _line(known.up), _line(known.down)
        return Way(up.base_s + down.base_s, up.per_work_s, down.per_work_s)

    def forget_all_but(self, targets: set[Target]) -> None:
        """Drop the ways to others."""
        self._known = {target: known for target, known in self._known.items() if target in targets}


def _unused(round_trip_s: float | None, now: float) -> _Known:
    trip = max(USUAL_ROUND_TRIP_S, round_trip_s or 0.0)
    up = Fit([(1, trip), *((size, trip + size / USUAL_BYTES_PER_S) for size in KNOWN_SIZES)])
    return _Known(up, Fit((size, size / USUAL_BYTES_PER_S) for size in KNOWN_SIZES), now)


def _line(fit: Fit) -> Line:
    assert fit.line is not None, "every way begins with the usual figures"
    return fit.line
