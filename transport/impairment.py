"""Decides what a bad link does to each packet: when it arrives, how often, whether damaged, or never.

One `Impairment` is one direction. It knows sizes and times, never contents; `relay` moves the bytes. Dice are
handed in, so one seed and one sequence of packets replay one history. Delay, jitter, reordering and duplication
mean what Linux' netem means by them, but jitter alone never reorders here: ask for `reorder`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Dice(Protocol):
    """Where chance comes from; `random.Random` is one."""

    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...


def _check_shares(conditions: object, names: tuple[str, ...]) -> None:
    for name in names:
        share = getattr(conditions, name)
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} is a share from 0 to 1, got {share}")


@dataclass(frozen=True, slots=True)
class BurstLoss:
    """Loss in bursts: two states that change from packet to packet (Gilbert 1960, Elliott 1963).

    enter, leave: chance per packet of turning bad, and good again; a burst lasts 1 / leave packets.
    loss_good, loss_bad: share lost in either state; Gilbert's own model is the default.
    """

    enter: float
    leave: float
    loss_good: float = 0.0
    loss_bad: float = 1.0

    def __post_init__(self) -> None:
        _check_shares(self, ("enter", "leave", "loss_good", "loss_bad"))

    @property
    def mean_loss(self) -> float:
        """The share lost in the long run."""
        changes = self.enter + self.leave
        bad = self.enter / changes if changes else 0.0
        return bad * self.loss_bad + (1.0 - bad) * self.loss_good


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket before a queue that drops what comes when it is full."""

    bytes_per_s: float
    burst_bytes: int = 16 * 1024
    queue_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        if self.bytes_per_s <= 0 or self.burst_bytes < 0 or self.queue_bytes < 0:
            raise ValueError(f"a rate is positive and its sizes are not negative, got {self}")


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad one direction is. Shares are 0..1, each packet on its own.

    jitter_s: arrival varies by ± this, uniformly.  reorder: share that is overtaken by what follows within
    `overtaken_s`.  corrupt: share in which one bit is flipped.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    bursts: BurstLoss | None = None
    reorder: float = 0.0
    overtaken_s: float = 0.01
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate: Rate | None = None

    def __post_init__(self) -> None:
        _check_shares(self, ("loss", "reorder", "duplicate", "corrupt"))
        if min(self.delay_s, self.jitter_s, self.overtaken_s) < 0:
            raise ValueError(f"times are not negative, got {self}")


CLEAR = Conditions()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One arrival of a packet. damaged_bit: which bit of it to flip, None when it arrives whole."""

    at: float
    damaged_bit: int | None = None


class Impairment:
    """One direction of a link. `is_cut` lets nothing in, whatever the conditions, until it is false again."""

    def __init__(self, conditions: Conditions, dice: Dice) -> None:
        self._dice = dice
        self._is_in_burst = False
        self._latest_at = float("-inf")
        self._tokens: float | None = None
        self._filled_at = 0.0
        self.conditions = conditions
        self.is_cut = False
        self.passed = 0
        self.dropped: Counter[str] = Counter()

    def apply(self, now: float, size_bytes: int) -> list[Delivery]:
        """What becomes of a packet that enters now: nothing, one arrival, or two. `now` never goes back."""
        cause = self._cause_of_loss()
        leaves_at = self._leaves_at(now, size_bytes) if cause is None else None
        if leaves_at is None:
            self.dropped[cause or "queue"] += 1
            return []
        self.passed += 1
        deliveries = [self._deliver(leaves_at, size_bytes)]
        if self._happens(self.conditions.duplicate):
            deliveries.append(self._deliver(leaves_at, size_bytes))
        return deliveries

    def _cause_of_loss(self) -> str | None:
        if self.is_cut:
            return "cut"
        if self._happens(self.conditions.loss):
            return "loss"
        bursts = self.conditions.bursts
        return "burst" if bursts is not None and self._is_lost_in_burst(bursts) else None

    def _is_lost_in_burst(self, bursts: BurstLoss) -> bool:
        if self._happens(bursts.leave if self._is_in_burst else bursts.enter):
            self._is_in_burst = not self._is_in_burst
        return self._happens(bursts.loss_bad if self._is_in_burst else bursts.loss_good)

    def _leaves_at(self, now: float, size_bytes: int) -> float | None:
        """When the bottleneck lets it go; None when its queue is full. Tokens below zero are the queue."""
        rate = self.conditions.rate
        if rate is None:
            self._tokens = None  # a limit set later starts with a full bucket
            return now
        if self._tokens is None:
            self._tokens = float(rate.burst_bytes)
        else:
            grown = self._tokens + (now - self._filled_at) * rate.bytes_per_s
            self._tokens = min(float(rate.burst_bytes), grown)
        self._filled_at = now
        if self._tokens - size_bytes < -rate.queue_bytes:
            return None
        self._tokens -= size_bytes
        return now + max(0.0, -self._tokens) / rate.bytes_per_s

    def _deliver(self, leaves_at: float, size_bytes: int) -> Delivery:
        conditions = self.conditions
        spread_s = conditions.jitter_s * (2 * self._dice.random() - 1) if conditions.jitter_s else 0.0
        at = max(leaves_at, leaves_at + conditions.delay_s + spread_s, self._latest_at)
        if self._happens(conditions.reorder):
            at += conditions.overtaken_s  # `_latest_at` stays: those who follow do not wait for this one
        else:
            self._latest_at = at
        is_damaged = size_bytes > 0 and self._happens(conditions.corrupt)
        return Delivery(at, self._dice.randrange(8 * size_bytes) if is_damaged else None)

    def _happens(self, share: float) -> bool:
        return share > 0.0 and self._dice.random() < share


def flip(packet: bytes, bit: int) -> bytes:
    """`packet` with one bit changed; bit 0 is the lowest of the first byte."""
    damaged = bytearray(packet)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def parse_conditions(text: str) -> Conditions:
    """Read what people type: `delay=40ms,jitter=5ms,loss=5%,bursts=1%/25%,reorder=1%,rate=10mbit`.

    Also duplicate, corrupt and overtaken. bursts is enter/leave. Raises ValueError saying what was expected.
    """
    found: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or name not in _READERS:
            raise ValueError(f"expected one of {', '.join(_READERS)}, each with =VALUE; got {part!r}")
        field, read = _READERS[name]
        found[field] = read(value)
    return Conditions(**found)  # type: ignore[arg-type]  # each reader returns what its field takes


def _read_number(text: str, units: dict[str, float], example: str) -> float:
    for unit, factor in units.items():
        if text.endswith(unit):
            try:
                number = float(text[: len(text) - len(unit)]) * factor
            except ValueError:
                break
            if math.isfinite(number):
                return number
    raise ValueError(f"expected a number and its unit, like {example}; got {text!r}")


def _read_time_s(text: str) -> float:
    return _read_number(text, {"ms": 1e-3, "s": 1.0}, "40ms or 0.5s")


def _read_share(text: str) -> float:
    return _read_number(text, {"%": 1e-2, "": 1.0}, "5% or 0.05")


def _read_bursts(text: str) -> BurstLoss:
    enter, _, leave = text.partition("/")
    return BurstLoss(_read_share(enter), _read_share(leave))


def _read_rate(text: str) -> Rate:
    return Rate(_read_number(text.lower(), {"kbit": 125.0, "mbit": 125e3, "gbit": 125e6}, "10mbit"))


_READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "delay": ("delay_s", _read_time_s),
    "jitter": ("jitter_s", _read_time_s),
    "loss": ("loss", _read_share),
    "bursts": ("bursts", _read_bursts),
    "reorder": ("reorder", _read_share),
    "overtaken": ("overtaken_s", _read_time_s),
    "duplicate": ("duplicate", _read_share),
    "corrupt": ("corrupt", _read_share),
    "rate": ("rate", _read_rate),
}
