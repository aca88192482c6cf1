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
    the same verifier does not count. Age takes from a verdict where only verdicts count; else it would make a member
    who was proved look slower than one who never was.
    """
    live = _latest(one for one in verdicts if one.made <= now < one.expires)
    if any(not one.is_honest for one in live):
        return 0.0
    if len(live) < (1 if nodes <= 2 else ENOUGH):
        return claimed if trust is Trust.MEMBERS else 0.0
    half_lives = 0.0 if trust is Trust.MEMBERS else 1 / HALF_LIFE_S
    return float(min(claimed, median(one.speed * 0.5 ** ((now - one.made) * half_lives) for one in live)))


def share_of_claim(claimed: float, verdicts: Collection[Attested], now: float, trust: Trust, nodes: int) -> float:
    """What part of its claimed speeds a node is believed, 0 … 1; 0: it gets no work.

    claimed: 0 for a node that claims nothing, of which the best verdict is then taken for its claim.
    """
    claim = claimed or max((one.speed for one in verdicts), default=0.0) or 1.0
    return worth(claim, verdicts, now, trust, nodes) / claim


def _latest(verdicts: Iterable[Attested]) -> list[Attested]:
    by_age = sorted(verdicts, key=lambda one: one.made)
    return list({one.verifier: one for one in by_age}.values())
