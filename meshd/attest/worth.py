"""What attestations make of a claimed speed, for placement. Pure.

Nothing here speaks of VRAM: no proof of it has been measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from transport.interface import NodeId

HALF_LIFE_S = 24 * 3600.0
ENOUGH = 2


class Trust(StrEnum):
    """How much placement believes. MEMBERS: who was admitted, until a verdict says less."""

    MEMBERS = "members"
    ATTESTED = "attested"


@dataclass(frozen=True, slots=True)
class Attested:
    """One verifier's verdict on a prover. speed: the lower bound, in the claim's unit.  made, expires: Unix time."""

    verifier: NodeId
    speed: float
    is_honest: bool
    made: float
    expires: float


def lower_rate(found: int, share: float, seconds: float) -> float:
    """Nonces a second that a prover tested at least, with 95 % certainty, when it found so many of a `share`."""
    return float(max(0.0, found - 1.645 * found**0.5) / (share * seconds))


def worth(claimed: float, verdicts: Collection[Attested], now: float, trust: Trust, nodes: int) -> float:
    """The speed to place by, never above the claim. nodes: members in the mesh; in one of two, one verdict is enough.

    A live verdict of fraud leaves nothing: give it only those whose transcript was checked here. An older verdict of
    the same verifier does not count.
    """
    live = _latest(one for one in verdicts if one.made <= now < one.expires)
    if any(not one.is_honest for one in live):
        return 0.0
    if len(live) < (1 if nodes <= 2 else ENOUGH):
        return claimed if trust is Trust.MEMBERS else 0.0
    return float(min(claimed, median(one.speed * 0.5 ** ((now - one.made) / HALF_LIFE_S) for one in live)))


def _latest(verdicts: Iterable[Attested]) -> list[Attested]:
    by_age = sorted(verdicts, key=lambda one: one.made)
    return list({one.verifier: one for one in by_age}.values())
