"""Which models are in memory: who must go for one that is asked for, and who may not. Pure.

Pinned models never leave. Lazy ones load at their first request, leave after a time without one, and make room for
others while they are idle; a model that is answering is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Policy(Enum):
    """How a model stays."""

    PINNED = "pinned"
    LAZY = "lazy"


class NoRoom(Exception):
    """There is not enough memory now; the message has the arithmetic."""


@dataclass(frozen=True, slots=True)
class Makeup:
    """What a reservation's bytes are for, as far as it is known before: a model's weights and caches, or forms."""

    weights: int = 0
    kv: int = 0
    forms: int = 0


UNKNOWN_MAKEUP = Makeup()


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """Bytes held on each device, in the ledger's order. makeup: of all of them together."""

    holder: str
    parts: tuple[int, ...]
    makeup: Makeup = UNKNOWN_MAKEUP

    @property
    def total_bytes(self) -> int:
        return sum(self.parts)

    def uses(self, number: int) -> dict[str, int]:
        """Bytes of device `number` by what they are for; a reservation of several devices is alike on each.

        "rest": work areas and margins, or all of what nobody has broken down.
        """
        held, total = self.parts[number], max(1, self.total_bytes)
        wanted = {"weights": self.makeup.weights, "kv": self.makeup.kv, "forms": self.makeup.forms}
        uses, left = {}, held
        for use, size in wanted.items():
            uses[use] = min(size * held // total, left)
            left -= uses[use]
        return uses | {"rest": left}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. last_used: when its last answer ended, on the caller's clock."""

    name: str
    held_bytes: int
    policy: Policy
    in_flight: int
    last_used: float

    @property
    def may_go(self) -> bool:
        return self.policy is Policy.LAZY and self.in_flight == 0


def to_displace(missing_bytes: int, loaded: Iterable[Loaded]) -> tuple[str, ...] | None:
    """The models to unload so that `missing_bytes` more are free; None when even all that may go are not enough.

    Those that were used longest ago go first, but none that the others make unnecessary.
    """
    going: list[Loaded] = []
    freed = 0
    for model in sorted((one for one in loaded if one.may_go), key=lambda one: (one.last_used, one.name)):
        if freed >= missing_bytes:
            break
        going.append(model)
        freed += model.held_bytes
    if freed < missing_bytes:
        return None
    for model in sorted(going, key=lambda one: -one.last_used):
        if freed - model.held_bytes >= missing_bytes:
            going.remove(model)
            freed -= model.held_bytes
    return tuple(model.name for model in going)


def idle_until(policy: Policy, in_flight: int, last_used: float, ttl_s: float) -> float | None:
    """When the model leaves if nobody asks for it; None for one that stays. ttl_s: 0 keeps lazy ones, too."""
    return last_used + ttl_s if policy is Policy.LAZY and in_flight == 0 and ttl_s > 0 else None
